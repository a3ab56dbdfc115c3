// Planes of a volume: one layer, or the maximum or mean of several.

/**
 * Return the int16 values of a plane's picture, row by row.
 *
 * `voxels` is slice by slice, row by row. `slab` is {mode: "single" | "max" | "mean", layers};
 * layers beyond the edge of the stack are left out. `into` is reused if it has the right size.
 */
export function extractPlane(voxels, shape, plane, number, slab, into) {
  const steps = [1, shape[0], shape[0] * shape[1]];
  const columns = shape[plane.across];
  const rows = shape[plane.down];
  const out = into && into.length === columns * rows ? into : new Int16Array(columns * rows);
  const layout = {
    columns,
    rows,
    first: plane.upward ? (rows - 1) * steps[plane.down] : 0,
    across: steps[plane.across],
    down: plane.upward ? -steps[plane.down] : steps[plane.down],
  };
  const [low, high] = slabRange(shape[plane.through], number, slab);
  const offsets = [];
  for (let layer = low; layer <= high; layer += 1) offsets.push(layer * steps[plane.through]);
  if (offsets.length === 1) copyLayer(voxels, layout, offsets[0], out);
  else if (slab.mode === "max") maximum(voxels, layout, offsets, out);
  else mean(voxels, layout, offsets, out);
  return out;
}

/** Return the first and last layer of a slab around a layer; with an even number, more below. */
export function slabRange(layers, number, slab) {
  if (slab.mode === "single") return [number, number];
  const low = number - Math.floor(slab.layers / 2);
  return [Math.max(low, 0), Math.min(low + slab.layers - 1, layers - 1)];
}

function copyLayer(voxels, layout, offset, out) {
  let place = 0;
  for (let row = 0; row < layout.rows; row += 1) {
    let from = offset + layout.first + row * layout.down;
    if (layout.across === 1) {
      out.set(voxels.subarray(from, from + layout.columns), place);
      place += layout.columns;
      continue;
    }
    for (let column = 0; column < layout.columns; column += 1) {
      out[place] = voxels[from];
      place += 1;
      from += layout.across;
    }
  }
}

function maximum(voxels, layout, offsets, out) {
  copyLayer(voxels, layout, offsets[0], out);
  for (const offset of offsets.slice(1)) {
    let place = 0;
    for (let row = 0; row < layout.rows; row += 1) {
      let from = offset + layout.first + row * layout.down;
      for (let column = 0; column < layout.columns; column += 1) {
        if (voxels[from] > out[place]) out[place] = voxels[from];
        place += 1;
        from += layout.across;
      }
    }
  }
}

function mean(voxels, layout, offsets, out) {
  const sums = new Int32Array(out.length);
  for (const offset of offsets) {
    let place = 0;
    for (let row = 0; row < layout.rows; row += 1) {
      let from = offset + layout.first + row * layout.down;
      for (let column = 0; column < layout.columns; column += 1) {
        sums[place] += voxels[from];
        place += 1;
        from += layout.across;
      }
    }
  }
  for (let place = 0; place < out.length; place += 1) {
    out[place] = Math.floor(sums[place] / offsets.length + 0.5);
  }
}
