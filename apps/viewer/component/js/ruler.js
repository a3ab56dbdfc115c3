// Measuring a distance in one plane.

import { Draft } from "./draft.js";
import { distanceMm } from "./geometry.js";

/** The tool "ruler": a distance is dragged from one end to the other. */
export class Ruler extends Draft {
  press(pane, x, y) {
    const from = pane.toIndex(x, y);
    this.draft = { plane: pane.plane.name, number: pane.number, from, to: from, words: "" };
    this.viewer.rulers.push(this.draft);
  }

  hover(pane, x, y) {
    const { draft, viewer } = this;
    if (draft?.plane !== pane.plane.name) return;
    draft.to = pane.toIndex(x, y);
    draft.words = `${distanceMm(viewer.scene.volume.spacing, draft.from, draft.to).toFixed(1)} mm`;
    viewer.redraw();
  }

  /** End a press; `moved` tells a drag from a click, which measures nothing. */
  release(moved) {
    if (!moved) this.cancel();
    this.draft = null;
    this.viewer.redraw();
  }

  /** Forget what was begun; returns whether there was anything. */
  cancel() {
    this.viewer.rulers = this.viewer.rulers.filter((ruler) => ruler !== this.draft);
    return super.cancel();
  }
}
