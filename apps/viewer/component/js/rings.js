// Marks and reference nodules as rings, scaled in millimetres.

import { sectionRadius, toPicture } from "./geometry.js";

const LEAST_RADIUS_PX = 4;
const VERDICT_COLORS = { accept: "#3cdc6e", reject: "#a5a5a5", undecided: "#ffd60a" };
const ADDED_COLOR = "#ff9f1c";
const DASHES = { mark: [], added: [2, 3] };
const ARMS = {
  teacher: { letter: "T", color: "#ff7ad9", dash: [9, 3, 2, 3] },
  control: { letter: "C", color: "#5fe8dc", dash: [4, 3] },
};
const REFERENCE_DASH = [6, 4];
const CROSS_PX = 3;
const REFERENCE_COLORS = { found: "#46beff", missed: "#ff5a5a", excluded: "#be8cff", "": "#46beff" };
const OUTCOME_COLORS = { hit: "#46beff", false: "#ff5a5a", ignored: "#be8cff" };
const OUTCOME_WORDS = { hit: "hit", false: "false positive", ignored: "excluded finding" };

/**
 * Return the colour of a ring: of a mark by the decision, of a reference by whether it was found.
 *
 * A mark of another arm has the colour of the arm, or with `showOutcome` that of its outcome.
 */
export function ringColor(ring, showOutcome) {
  if (ring.group === "added") return ADDED_COLOR;
  if (ring.group === "mark") return VERDICT_COLORS[ring.verdict] ?? VERDICT_COLORS.undecided;
  if (ring.group === "other") {
    return (showOutcome && OUTCOME_COLORS[ring.outcome]) || ARMS[ring.arm].color;
  }
  return REFERENCE_COLORS[ring.group === "excluded" ? "excluded" : ring.outcome];
}

/** Return the place, radius and plane distance of a ring in a pane, in CSS pixels; null if unseen. */
export function placeRing(ring, pane) {
  const { plane } = pane;
  const spacing = pane.spacing[plane.through];
  const distance = (ring.center[plane.through] - pane.number) * spacing;
  const beyond = Math.max(Math.abs(distance) - pane.slabHalfMm(), 0);
  const radiusMm = sectionRadius(ring.diameter, beyond, spacing);
  if (radiusMm <= 0) return null;
  const { column, row } = toPicture(plane, pane.shape, ring.center);
  const place = pane.toScreen(column, row);
  return { ...place, radius: Math.max(radiusMm * pane.pxPerMm(), LEAST_RADIUS_PX) };
}

/** Draw a ring outside its radius, which keeps the edge of the nodule visible. */
export function drawRing(context, ring, place, { color, selected, showOutcome }) {
  const width = selected ? 3 : 1.75;
  const outer = place.radius + width / 2;
  context.lineWidth = width;
  context.strokeStyle = color;
  context.setLineDash(DASHES[ring.group] ?? ARMS[ring.arm]?.dash ?? REFERENCE_DASH);
  context.beginPath();
  context.arc(place.x, place.y, outer, 0, 2 * Math.PI);
  context.stroke();
  context.setLineDash([]);
  if (selected) {
    context.lineWidth = 1;
    context.beginPath();
    context.arc(place.x, place.y, outer + 4, 0, 2 * Math.PI);
    context.stroke();
  }
  if (ring.group === "added") drawCross(context, place);
  const right = place.x + outer * 0.75 + 4;
  const top = place.y - outer * 0.75 - 4;
  if (ring.group === "other") {
    // On the left, because a mark of the student on this nodule has its text on the right.
    const label = ringLabel(ring);
    const left = place.x - outer * 0.75 - 4 - context.measureText(label).width;
    drawText(context, label, left, ring.arm === "teacher" ? top : top + outer * 1.5 + 18, color);
    return;
  }
  if (ring.group === "included" || ring.group === "excluded") {
    // Below the ring, because a mark on this nodule has its text above.
    drawText(context, ringLabel(ring), right, place.y + outer * 0.75 + 14, color);
    return;
  }
  drawText(context, ringLabel(ring), right, top, color);
  if (showOutcome && ring.outcome) {
    drawText(context, OUTCOME_WORDS[ring.outcome], right, top + 14, OUTCOME_COLORS[ring.outcome]);
  }
}

function drawCross(context, { x, y }) {
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x - CROSS_PX, y);
  context.lineTo(x + CROSS_PX, y);
  context.moveTo(x, y - CROSS_PX);
  context.lineTo(x, y + CROSS_PX);
  context.stroke();
}

/** Return the text beside a ring. */
export function ringLabel(ring) {
  if (ring.words) return ring.words;
  if (ring.group === "added") return `A${ring.number || ""} ${ring.diameter.toFixed(1)} mm`;
  if (ring.group === "mark") {
    return ring.score === null ? `${ring.number}` : `${ring.number}: ${ring.score.toFixed(2)}`;
  }
  if (ring.group === "other") return `${ARMS[ring.arm].letter}: ${ring.score.toFixed(2)}`;
  const outcome = ring.outcome === "missed" || ring.outcome === "found" ? ` ${ring.outcome}` : "";
  return `R${ring.number}${outcome}`;
}

/** Draw text with a dark edge, so that it can be read on any grey. */
export function drawText(context, text, x, y, color) {
  context.lineWidth = 3;
  context.strokeStyle = "rgba(0, 0, 0, 0.85)";
  context.strokeText(text, x, y);
  context.fillStyle = color;
  context.fillText(text, x, y);
}
