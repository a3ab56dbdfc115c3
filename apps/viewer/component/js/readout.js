// What is under the pointer, in words: the value of the picture and the place in the body.

import { mapPoint, nearestVoxel } from "./geometry.js";

/** Describe what is under a CSS pixel of a pane; empty if that is no loaded voxel. */
export function readoutWords(viewer, { pane, x, y }) {
  const { volume } = pane; // of the current scan, or of the other scan beside it
  const voxel = nearestVoxel(volume.shape, pane.toIndex(x, y));
  if (!voxel || !volume.holds(voxel[2])) return "";
  const isCurrent = volume === viewer.volume;
  const heat = isCurrent ? viewer.heat.valueAt(voxel) : "";
  if (viewer.scene.picture) {
    return `grey ${pane.shownAt(voxel)}, column ${voxel[0] + 1}, row ${voxel[1] + 1}${heat}`;
  }
  const place = mapPoint(volume.facts.affine, voxel);
  const mm = place.map((value) => value.toFixed(1)).join(", ");
  const how = viewer.slab.mode === "single" ? "" : `${viewer.slab.mode} `;
  const whose = isCurrent ? "" : `${viewer.prior.scene.name}: `;
  return `${whose}${how}${pane.shownAt(voxel)} HU at ${mm} mm (LPS)${heat}`;
}
