// Adding a nodule with the mouse, and correcting the place and diameter of the chosen one.

import { addedRing, LOCKED } from "./decisions.js";
import { RingDraft } from "./draft.js";
import { distanceMm, mapPoint, nearestVoxel } from "./geometry.js";
import { placeRing } from "./rings.js";

const GRAB_PX = 6;
/** Smaller diameters are refused, as slips of the mouse. */
export const LEAST_MM = 1;
/** Larger diameters are refused: no nodule is larger than a chest. */
export const MOST_MM = 300;

/**
 * The tool "add". Pressing at the middle and dragging to the edge adds a nodule; so do two clicks,
 * the first at the middle and the second at the edge. Dragging the middle or the edge of the chosen
 * ring corrects it.
 */
export class Adding extends RingDraft {
  /** Return whether a press belongs to this tool at a place. */
  press(pane, x, y) {
    if (this.draft?.placed && this.draft.plane === pane.plane.name) return this.hover(pane, x, y);
    const grabbed = this.grab(pane, x, y);
    if (grabbed?.ring.locked) return this.viewer.bars.say(LOCKED);
    this.draft = grabbed ?? this.begin(pane, x, y);
    return this.viewer.redraw();
  }

  begin(pane, x, y) {
    const center = pane.toIndex(x, y);
    if (!nearestVoxel(this.viewer.scene.volume.shape, center)) {
      this.viewer.bars.say("Outside the scan.");
      return null;
    }
    return { kind: "add", plane: pane.plane.name, ring: addedRing("draft", center, 0) };
  }

  /** Return the correction that begins on the chosen ring, or null. */
  grab(pane, x, y) {
    const ring = this.viewer.current();
    if (!ring || !["mark", "added"].includes(ring.group)) return null;
    const place = placeRing(ring, pane);
    if (!place) return null;
    const px = Math.hypot(place.x - x, place.y - y);
    const begun = { plane: pane.plane.name, ring: { ...ring } };
    if (px <= Math.min(GRAB_PX, place.radius / 2)) return { kind: "place", ...begun };
    return Math.abs(px - place.radius) <= GRAB_PX ? { kind: "diameter", ...begun } : null;
  }

  hover(pane, x, y) {
    const { draft } = this;
    if (!draft || draft.plane !== pane.plane.name) return;
    const { through } = pane.plane;
    const index = pane.toIndex(x, y);
    index[through] = draft.ring.center[through];
    if (draft.kind === "place") {
      if (nearestVoxel(this.viewer.scene.volume.shape, index)) draft.ring.center = index;
    } else {
      const mm = 2 * distanceMm(this.viewer.scene.volume.spacing, draft.ring.center, index);
      Object.assign(draft.ring, { diameter: Math.min(round(mm, 1), MOST_MM), assumed: false });
    }
    this.viewer.redraw();
  }

  /** End a press; `moved` tells a drag from a click. */
  release(moved) {
    const { draft } = this;
    if (!draft) return;
    if (draft.kind === "add" && !moved && !draft.placed) {
      draft.placed = true;
      this.viewer.bars.say("Now click the edge of the nodule.");
      return;
    }
    this.draft = null;
    if (draft.kind === "add") this.finish(draft.ring);
    else if (moved) this.correct(draft);
    this.viewer.redraw();
  }

  finish({ center, diameter }) {
    const { viewer } = this;
    if (diameter < LEAST_MM) return viewer.bars.say(`Not added: smaller than ${LEAST_MM} mm.`);
    viewer.selected = viewer.decisions.add(center, this.toMm(center), diameter);
    return viewer.chooseTool("window");
  }

  correct({ kind, ring }) {
    const { decisions } = this.viewer;
    if (kind === "place") decisions.move(ring.id, ring.center, this.toMm(ring.center));
    else if (ring.diameter >= LEAST_MM) decisions.resize(ring.id, ring.diameter);
  }

  toMm(index) {
    return mapPoint(this.viewer.scene.volume.affine, index).map((mm) => round(mm, 2));
  }
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}
