// Geometry of the planes: voxel indices, LPS millimetres and places in a picture.
//
// An index is [column, row, slice] of the axial stack, with voxel centres at whole numbers. A
// picture of a plane has its own columns (`across`) and rows (`down`); `upward` planes show the
// down axis reversed. `display.py` describes the planes and the conversion to LPS millimetres.

/** Map an index or LPS point with a matrix of three rows of four numbers. */
export function mapPoint(matrix, point) {
  return matrix.map((row) => row[0] * point[0] + row[1] * point[1] + row[2] * point[2] + row[3]);
}

/** Return the number of columns and rows of a plane's picture. */
export function planeSize(plane, shape) {
  return { columns: shape[plane.across], rows: shape[plane.down] };
}

/** Return the picture column and row of an index; continuous, as the index may be. */
export function toPicture(plane, shape, index) {
  const down = index[plane.down];
  return { column: index[plane.across], row: plane.upward ? shape[plane.down] - 1 - down : down };
}

/** Return the index of a picture column and row in the plane number `through`. */
export function fromPicture(plane, shape, column, row, through) {
  const index = [0, 0, 0];
  index[plane.across] = column;
  index[plane.down] = plane.upward ? shape[plane.down] - 1 - row : row;
  index[plane.through] = through;
  return index;
}

/** Round an index to the nearest voxel; null if that is outside the stack. */
export function nearestVoxel(shape, index) {
  const voxel = index.map((value) => Math.round(value));
  return voxel.every((value, axis) => value >= 0 && value < shape[axis]) ? voxel : null;
}

/** Keep an index inside the stack. */
export function clampIndex(shape, index) {
  return index.map((value, axis) => Math.min(Math.max(value, 0), shape[axis] - 1));
}

/**
 * Return the radius in mm of the circle in which a sphere cuts a plane; 0 if it does not.
 *
 * Within half the plane spacing the sphere has its full size, because otherwise a sphere between
 * two planes would not be shown at all.
 */
export function sectionRadius(diameterMm, distanceMm, spacingMm) {
  const radius = diameterMm / 2;
  if (Math.abs(distanceMm) <= spacingMm / 2) return radius;
  return Math.sqrt(Math.max(radius * radius - distanceMm * distanceMm, 0));
}

/** Return the distance in mm between two indices. */
export function distanceMm(spacing, one, other) {
  return Math.hypot(...one.map((value, axis) => (value - other[axis]) * spacing[axis]));
}

/** Return a round length in mm (1, 2 or 5 times a power of ten) of at most `longestMm`. */
export function scaleBarMm(longestMm) {
  const power = 10 ** Math.floor(Math.log10(longestMm));
  return [5, 2, 1].map((factor) => factor * power).find((length) => length <= longestMm);
}
