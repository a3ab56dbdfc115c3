// Measuring a nodule by its longest axis and the longest axis perpendicular to it, in one plane.

import { MOST_MM } from "./adding.js";
import { Draft } from "./draft.js";
import { distanceMm, toPicture } from "./geometry.js";
import { drawText } from "./rings.js";

const SHORTEST_MM = 0.5;
const COLOR = "#7fffd4";
const TEXT_BELOW_PX = 36;

/** Return the vector in mm between two indices. */
function vectorMm(spacing, from, to) {
  return spacing.map((mm, axis) => (to[axis] - from[axis]) * mm);
}

/** Return the index that is a vector in mm away from another. */
function shifted(spacing, index, vector) {
  return index.map((value, axis) => value + vector[axis] / spacing[axis]);
}

/** Divide the vector in mm from the start of an axis to an index into its parts along and across. */
function divide(spacing, axis, from, to) {
  const whole = vectorMm(spacing, axis.from, axis.to);
  const length = Math.hypot(...whole);
  const unit = whole.map((mm) => mm / length);
  const vector = vectorMm(spacing, from, to);
  const along = vector.reduce((sum, mm, place) => sum + mm * unit[place], 0);
  return { length, unit, along, across: vector.map((mm, place) => mm - along * unit[place]) };
}

/** Return the short axis from one index towards another, held perpendicular to the long axis. */
export function perpendicularAxis(spacing, long, from, towards) {
  const { across } = divide(spacing, long, from, towards);
  return { from, to: shifted(spacing, from, across) };
}

/** Return the short axis that begins at an index and is halved by the long axis. */
export function halvedAxis(spacing, long, index) {
  const { length, unit, along, across } = divide(spacing, long, long.from, index);
  const kept = Math.min(Math.max(along, 0), length);
  const foot = shifted(spacing, long.from, unit.map((mm) => mm * kept));
  return {
    from: shifted(spacing, foot, across),
    to: shifted(spacing, foot, across.map((mm) => -mm)),
  };
}

/**
 * Return both axes and their mean in mm, each to .1 mm; halves are rounded upwards.
 *
 * The mean is that of the two rounded axes, as Lung-RADS and the Fleischner Society ask for.
 */
export function measureAxes(spacing, long, short) {
  const tenths = [long, short].map(({ from, to }) => Math.round(distanceMm(spacing, from, to) * 10));
  const [longer, shorter] = tenths.sort((one, other) => other - one);
  return { long: longer / 10, short: shorter / 10, mean: Math.round((longer + shorter) / 2) / 10 };
}

/**
 * The tool "diameter". The long axis is dragged, or clicked at both ends. Then the short axis is
 * dragged from edge to edge, or clicked at one end: the long axis halves it.
 */
export class Diameter extends Draft {
  get spacing() {
    return this.viewer.scene.volume.spacing;
  }

  press(pane, x, y) {
    const index = pane.toIndex(x, y);
    if (!this.isHere(pane)) {
      const long = { from: index, to: index };
      this.draft = { plane: pane.plane.name, number: pane.number, step: "long", long };
    } else if (this.draft.step === "short") this.draft.start = index;
    this.hover(pane, x, y);
  }

  isHere(pane) {
    const { draft } = this;
    return draft?.plane === pane.plane.name && draft.number === pane.number;
  }

  hover(pane, x, y) {
    const { draft, spacing } = this;
    if (!this.isHere(pane)) return;
    const index = pane.toIndex(x, y);
    if (draft.step === "long") draft.long.to = index;
    else draft.short = this.shortTo(index);
    if (draft.short) draft.mm = measureAxes(spacing, draft.long, draft.short);
    this.viewer.redraw();
  }

  /** Return the short axis that ends at the pointer: dragged, or before that and for a click, halved. */
  shortTo(index) {
    const { long, start } = this.draft;
    const dragged = start && distanceMm(this.spacing, start, index) >= SHORTEST_MM;
    if (dragged) return perpendicularAxis(this.spacing, long, start, index);
    return halvedAxis(this.spacing, long, start ?? index);
  }

  /** End a press; `moved` tells a drag from a click. */
  release(moved) {
    const { draft, viewer } = this;
    if (!draft) return undefined;
    if (draft.step === "short") {
      if (draft.mm.short >= SHORTEST_MM) return this.finish();
      draft.start = undefined;
      viewer.bars.say("Not measured: the short axis is too short.");
    } else if (!moved && !draft.placed) {
      draft.placed = true;
      viewer.bars.say("Now click the other end of the longest axis.");
    } else if (distanceMm(this.spacing, draft.long.from, draft.long.to) < SHORTEST_MM) {
      this.cancel();
      viewer.bars.say("Not measured: too short.");
    } else {
      draft.step = "short";
      viewer.bars.say("Now drag the short axis, or click one end of it.");
    }
    return viewer.redraw();
  }

  finish() {
    const { plane, number, long, short, mm } = this.draft;
    this.draft = null;
    const words = measuredWords(mm);
    this.viewer.rulers.push({ plane, number, ...long, short, mm, words });
    this.viewer.chooseTool("window");
    this.viewer.bars.say(this.measured(this.viewer.current()) ? `${words}: D takes the mean` : words);
  }

  /** Return the last measurement that was made on a ring, or undefined. */
  measured(ring) {
    const isOn = ({ from, to, mm }) => {
      const middle = from.map((value, axis) => (value + to[axis]) / 2);
      return distanceMm(this.spacing, middle, ring.center) <= (ring.diameter + mm.long) / 2;
    };
    return ring ? this.viewer.rulers.findLast((ruler) => ruler.mm && isOn(ruler)) : undefined;
  }

  /** Make the mean the diameter of the chosen mark or added nodule. */
  take() {
    const { viewer } = this;
    const ring = viewer.current();
    if (!["mark", "added"].includes(ring?.group)) return viewer.bars.say("No mark is chosen.");
    if (viewer.lost) return viewer.bars.say("Nothing is being saved.");
    const measured = this.measured(ring);
    if (!measured) return viewer.bars.say("No diameter was measured on this mark (d).");
    const { mean } = measured.mm;
    if (mean > MOST_MM) return viewer.bars.say(`Not taken: above ${MOST_MM} mm.`);
    viewer.decisions.resize(ring.id, mean);
    viewer.bars.say(`The diameter of this mark is now ${mean.toFixed(1)} mm.`);
    return viewer.redraw();
  }

  /** Draw the measurements of a pane's slice, and the one that was begun. */
  draw(pane, context) {
    const { draft } = this;
    const begun = draft ? [{ ...draft, ...draft.long, words: draftWords(draft, this.spacing) }] : [];
    const kept = this.viewer.rulers.filter(({ mm }) => mm);
    for (const one of [...kept, ...begun]) {
      if (one.plane !== pane.plane.name || one.number !== pane.number) continue;
      drawAxes(pane, context, one);
    }
  }
}

function draftWords({ long, mm }, spacing) {
  if (!mm) return `${distanceMm(spacing, long.from, long.to).toFixed(1)} mm`;
  return measuredWords(mm);
}

function measuredWords({ long, short, mean }) {
  return `${long.toFixed(1)} x ${short.toFixed(1)} mm, mean ${mean.toFixed(1)} mm`;
}

function drawAxes(pane, context, { from, to, short, words }) {
  const place = (index) => {
    const { column, row } = toPicture(pane.plane, pane.shape, index);
    return pane.toScreen(column, row);
  };
  const ends = [from, to, ...(short ? [short.from, short.to] : [])].map(place);
  context.strokeStyle = COLOR;
  context.lineWidth = 1.5;
  for (let first = 0; first < ends.length; first += 2) {
    context.beginPath();
    context.moveTo(ends[first].x, ends[first].y);
    context.lineTo(ends[first + 1].x, ends[first + 1].y);
    context.stroke();
  }
  // Below the axes, because the texts of a ring are on both sides of it.
  const lowest = ends.reduce((one, other) => (other.y > one.y ? other : one));
  const left = lowest.x - context.measureText(words).width / 2;
  drawText(context, words, left, lowest.y + TEXT_BELOW_PX, COLOR);
}
