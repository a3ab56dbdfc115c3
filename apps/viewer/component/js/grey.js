// From HU to grey: a table with one colour for every int16 value.

/**
 * Fill the table of a window: its lower edge is black, its upper edge white, clipped outside.
 *
 * The table is indexed by the bits of the int16 value read as uint16. Its entries are opaque
 * colours for an ImageData buffer. `display.build_look_up` is the same in Python.
 */
export function fillLookUp(table, center, width, inverted) {
  const low = center - width / 2;
  const perHu = 255 / width;
  for (let hu = -32768; hu < 32768; hu += 1) {
    let grey = Math.floor((hu - low) * perHu + 0.5);
    grey = grey < 0 ? 0 : grey > 255 ? 255 : grey;
    if (inverted) grey = 255 - grey;
    table[hu & 0xffff] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

/** Write the colours of int16 values (as uint16) into an ImageData buffer. */
export function paint(values, table, pixels) {
  for (let place = 0; place < pixels.length; place += 1) pixels[place] = table[values[place]];
}

/** Return a window changed by dragging: right widens it, down raises its centre. */
export function dragWindow(window, rightPx, downPx) {
  const perPx = Math.max(window.width, 100) / 300;
  const width = Math.min(Math.max(window.width + rightPx * perPx, 1), 20000);
  const center = Math.min(Math.max(window.center + downPx * perPx, -5000), 20000);
  return { center: Math.round(center), width: Math.round(width) };
}
