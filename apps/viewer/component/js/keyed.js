// Adding a nodule and correcting the chosen ring by keyboard alone.

import { LEAST_MM, MOST_MM } from "./adding.js";
import { addedRing, LOCKED } from "./decisions.js";
import { RingDraft } from "./draft.js";
import { distanceMm, nearestVoxel } from "./geometry.js";

const FIRST_MM = 6;
const STEP_MM = 0.5;

/** Directions on the screen: across, down, and through the stack. */
const MOVES = {
  ArrowLeft: [-1, 0, 0],
  ArrowRight: [1, 0, 0],
  ArrowUp: [0, -1, 0],
  ArrowDown: [0, 1, 0],
  PageUp: [0, 0, -1],
  PageDown: [0, 0, 1],
};
const SIZES = { "+": STEP_MM, "=": STEP_MM, "-": -STEP_MM };
/** Keys that keep their meaning meanwhile: windows, planes, marks, heat map, help. */
const VIEWING = [..."12345ivhogt,.?"];

/** A ring that the keys move and size; nothing of it is saved before Enter. */
export class Keyed extends RingDraft {
  /** Begin a nodule at the crosshair. */
  add() {
    const { viewer } = this;
    if (viewer.scene.picture) return viewer.bars.say("Nodules are added in scans.");
    return this.begin(addedRing("draft", [...viewer.index], FIRST_MM), null);
  }

  /** Begin a correction of the chosen ring. */
  correct() {
    const { viewer } = this;
    const ring = viewer.current();
    if (!["mark", "added"].includes(ring?.group)) return viewer.bars.say("No mark is chosen.");
    if (ring.locked) return viewer.bars.say(LOCKED);
    return this.begin({ ...ring, center: [...ring.center] }, ring);
  }

  begin(ring, before) {
    const { viewer } = this;
    if (viewer.lost) return viewer.bars.say("Nothing is being saved.");
    viewer.chooseTool("window");
    this.draft = { ring, before };
    return this.follow();
  }

  /** Return whether a key belongs to the begun ring, and do what it asks for. */
  takes(key) {
    if (!this.draft || VIEWING.includes(key)) return false;
    if (MOVES[key]) this.move(MOVES[key]);
    else if (SIZES[key]) this.size(SIZES[key]);
    else if (key === "Enter") this.save();
    else if (key === "Escape") this.cancel();
    else this.viewer.bars.say("Enter saves this ring, Esc discards it.");
    this.viewer.redraw();
    return true;
  }

  move([across, down, through]) {
    const { plane } = this.viewer.active;
    const center = [...this.draft.ring.center];
    center[plane.across] += across;
    center[plane.down] += plane.upward ? -down : down;
    center[plane.through] += through;
    if (!nearestVoxel(this.viewer.scene.volume.shape, center)) return this.viewer.bars.say("Outside the scan.");
    this.draft.ring.center = center;
    return this.follow();
  }

  size(mm) {
    const diameter = Math.min(Math.max(this.draft.ring.diameter + mm, LEAST_MM), MOST_MM);
    Object.assign(this.draft.ring, { diameter: Math.round(diameter * 10) / 10, assumed: false });
  }

  /** Show the slices through the ring. */
  follow() {
    const { viewer, draft } = this;
    viewer.index = viewer.voxelOf(draft.ring) ?? viewer.index;
    return viewer.redraw();
  }

  save() {
    const { viewer } = this;
    const { ring, before } = this.draft;
    this.draft = null;
    if (viewer.lost) return viewer.bars.say("Nothing is being saved.");
    if (!before) return viewer.adding.finish(ring);
    const moved = distanceMm(viewer.scene.volume.spacing, before.center, ring.center) > 0;
    if (moved) viewer.adding.correct({ kind: "place", ring });
    if (ring.diameter !== before.diameter) viewer.adding.correct({ kind: "diameter", ring });
    return undefined;
  }

  /** Describe the begun ring and its keys. */
  words() {
    const { ring, before } = this.draft;
    const what = before ? "Correction" : "New nodule";
    return `${what}: ${ring.diameter.toFixed(1)} mm. Arrows, Page ↑ ↓: move; + −: size; Enter: save; Esc: discard`;
  }
}
