// Another scan of the same patient beside the current one: its planes, and how both move together.
//
// The two scans are linked by a shift in LPS mm, `offset`: a place of the current scan plus the
// offset is the place in the other scan. While they are not linked, the other scan keeps its slice,
// and the offset follows from what the reader shows. Nothing is decided or measured here.

import { mapPoint, toPicture } from "./geometry.js";
import { keepPlace, keepVolumes, keptPlace, keptVolume } from "./memory.js";
import { Pane } from "./pane.js";
import { connectPointer } from "./pointer.js";
import { drawRing, placeRing, ringColor } from "./rings.js";
import { Volume } from "./volume.js";

const LINK_WORDS = { lungs: "lungs", scans: "ends of the scans", reader: "reader" };
const WAIT_WORDS = "loading this slice ...";
const BEYOND_WORDS = "beyond the end of this scan";

/**
 * Return the shift that brings a point to the same relative position in the other box.
 *
 * A box has [lowest, highest] LPS mm of each axis. `priors.start_offset_mm` is the same in Python.
 */
export function startOffset(point, here, there) {
  return point.map((mm, axis) => {
    const [low, high] = here[axis];
    const [otherLow, otherHigh] = there[axis];
    const inside = Math.min(Math.max(mm, low), high);
    const share = high > low ? (inside - low) / (high - low) : 0.5;
    return otherLow + share * (otherHigh - otherLow) - inside;
  });
}

/** Return the index in the other scan of an index of the current one. */
export function pairedIndex(affine, inverse, offset, index) {
  const place = mapPoint(affine, index);
  return mapPoint(inverse, place.map((mm, axis) => mm + offset[axis]));
}

export class Prior {
  constructor(viewer) {
    this.viewer = viewer;
    this.tool = "window"; // rulers and nodules belong to the current scan
    this.ask = () => {};
    this.asked = "";
    this.scene = null;
    this.volume = null;
    this.panes = [];
    this.active = false;
  }

  // ---- what Python sends

  /** `scene` is `prior_scene.describe_prior`, or null if the patient has no other scan. */
  update(scene) {
    this.scene = scene;
    if (!scene?.volume && this.volume) this.close();
    if (scene?.volume && this.pair !== this.pairOf(scene)) this.open(scene);
    this.want();
    this.fillChoices();
  }

  pairOf(scene) {
    return `${this.viewer.scene.volume.id} ${scene.volume.id}`;
  }

  close() {
    for (const { host } of this.panes) host.remove();
    this.panes = [];
    this.volume = null;
    this.pair = "";
    this.active = false;
    keepVolumes([this.viewer.volume]);
  }

  open(scene) {
    this.close();
    this.pair = this.pairOf(scene);
    const { viewer } = this;
    const held = keptVolume(scene.volume.id);
    this.volume = held ?? new Volume(scene.volume, () => {});
    this.volume.onChange = () => viewer.redraw();
    keepVolumes([viewer.volume, this.volume]);
    this.affine = scene.volume.affine;
    const start = mapPoint(viewer.scene.volume.affine, viewer.index);
    this.offset = startOffset(start, scene.here, scene.there);
    this.by = scene.by;
    this.held = null;
    Object.assign(this, keptPlace(this.pair));
    if (!held) this.volume.load(Math.max(Math.round(this.paired(viewer.index)[2]), 0));
    this.buildPanes(scene.planes);
  }

  buildPanes(planes) {
    this.panes = planes.map((plane, place) => {
      const host = this.viewer.panes[place].host.cloneNode(true);
      host.classList.add("prior");
      host.classList.remove("active");
      this.viewer.panes.at(-1).host.parentElement.insertBefore(host, this.box());
      return new Pane(host, plane);
    });
    for (const pane of this.panes) {
      pane.setVolume(this.volume);
      connectPointer(this, pane);
    }
  }

  // ---- switching on and off, choosing, linking

  /** Whether the other scan is on the screen: beside one plane, not beside three. */
  get shown() {
    const { taste } = this.viewer;
    return Boolean(taste?.prior && this.volume && taste.layout !== "three");
  }

  /** Ask Python for the other scan, once, if the reader wants it and Python has not read it. */
  want() {
    const { scene } = this;
    if (!this.viewer.taste.prior || this.asked || !scene || scene.volume || scene.fault) return;
    this.choose(scene.id);
  }

  toggle() {
    const { viewer } = this;
    if (!this.scene) return viewer.bars.say("The patient has no other scan here.");
    const { taste } = viewer;
    const three = taste.layout === "three";
    taste.prior = three || !taste.prior;
    if (three) viewer.setLayout(viewer.active.plane.name);
    if (!taste.prior) this.asked = "";
    this.active = false;
    this.want();
    return viewer.redraw();
  }

  choose(id) {
    this.asked = id;
    this.ask(id);
    this.viewer.redraw();
  }

  toggleLink() {
    if (!this.shown) return;
    // Keys come faster than pictures: the slice of this moment counts, not the one drawn last.
    const { plane } = this.paneOf(this.viewer.active.plane);
    const number = this.numberIn(plane);
    this.held = this.held ? null : { plane: plane.name, number };
    this.by = "reader";
    this.viewer.redraw();
  }

  // ---- places

  /** Return the pane of this scan that shows the same plane as one of the current scan. */
  paneOf(plane) {
    return this.panes.find((other) => other.plane.name === plane.name);
  }

  /** Return the index in the other scan of an index of the current one. */
  paired(index) {
    return pairedIndex(this.viewer.scene.volume.affine, this.scene.inverse, this.offset, index);
  }

  /** Move the offset by the way from one index of the other scan to another. */
  shift(from, to) {
    const [start, end] = [from, to].map((index) => mapPoint(this.affine, index));
    this.offset = this.offset.map((mm, axis) => mm + end[axis] - start[axis]);
  }

  /**
   * Return the number of the slice of a plane, which may lie outside the scan.
   *
   * While the scans are not linked, it is the kept one, and the offset is changed to agree with it.
   */
  numberIn(plane) {
    const index = this.paired(this.viewer.index);
    if (!this.held) return Math.round(index[plane.through]);
    if (this.held.plane !== plane.name) {
      this.held = { plane: plane.name, number: Math.round(index[plane.through]) };
    }
    const kept = [...index];
    kept[plane.through] = this.held.number;
    this.shift(index, kept);
    return this.held.number;
  }

  // ---- what the pointer and the keys do here (`connectPointer`)

  hand() {
    return null;
  }

  activate() {
    this.active = true;
    this.viewer.redraw();
  }

  /** Whether the keys scroll this scan alone. */
  takesKeys() {
    return this.shown && this.active && this.held !== null;
  }

  scroll(by) {
    if (!this.takesKeys()) return this.viewer.scroll(by);
    const { through } = this.viewer.active.plane;
    const last = this.volume.shape[through] - 1;
    this.held.number = Math.min(Math.max(this.held.number + by, 0), last);
    return this.viewer.redraw();
  }

  move(pane, dx, dy) {
    if (!this.held) return this.viewer.move(this.viewer.active, dx, dy);
    this.shift(pane.toIndex(dx, dy), pane.toIndex(0, 0));
    return this.viewer.redraw();
  }

  zoom(pane, x, y, factor) {
    this.viewer.zoom(this.viewer.active, x, y, factor);
  }

  dragWindow(dx, dy) {
    this.viewer.dragWindow(dx, dy);
  }

  click() {}

  readAt(pane, x, y) {
    this.viewer.readAt(pane, x, y);
  }

  readNothing() {
    this.viewer.readNothing();
  }

  focus() {
    this.viewer.focus();
  }

  focusUnlessTyping() {
    this.viewer.focusUnlessTyping();
  }

  // ---- drawing

  /** Make room for the other scan; called before anything is drawn. */
  arrange() {
    this.viewer.root.dataset.prior = this.shown ? "shown" : "";
    this.drawControls();
  }

  draw(look) {
    if (!this.shown) return;
    const { plane } = this.viewer.active;
    const pane = this.paneOf(plane);
    const wanted = this.numberIn(pane.plane);
    const number = Math.min(Math.max(wanted, 0), pane.shape[plane.through] - 1);
    pane.resize();
    pane.number = number;
    this.follow(pane, this.viewer.active);
    pane.drawImage({ ...look, heat: null }); // a heat map belongs to the current scan
    pane.wait.textContent = number === wanted ? WAIT_WORDS : BEYOND_WORDS;
    if (number !== wanted) pane.wait.hidden = false;
    this.drawRings(pane);
    this.drawTitle(pane);
    const { offset, by, held } = this;
    keepPlace(this.pair, { offset, by, held });
  }

  /** Show the same place as a pane of the current scan in the middle, at the same scale. */
  follow(pane, beside) {
    pane.reset();
    pane.zoom = beside.pxPerMm() / pane.pxPerMm();
    const middle = { x: pane.host.clientWidth / 2, y: pane.host.clientHeight / 2 };
    const index = this.paired(beside.toIndex(middle.x, middle.y));
    const { column, row } = toPicture(pane.plane, pane.shape, index);
    const place = pane.toScreen(column, row);
    pane.pan = { x: middle.x - place.x, y: middle.y - place.y };
  }

  drawRings(pane) {
    const context = pane.clearOverlay();
    pane.drawScaleBar();
    if (this.viewer.taste.hidden) return;
    const own = ["mark", "added"];
    for (const ring of this.scene.rings) {
      const place = placeRing(ring, pane);
      if (!place || !(own.includes(ring.group) || this.viewer.showReference)) continue;
      const color = ringColor(ring, false);
      drawRing(context, ring, place, { color, selected: false, showOutcome: false });
    }
  }

  drawTitle(pane) {
    const { scene, volume } = this;
    const { plane, number } = pane;
    const place = `${plane.title} ${number + 1}/${pane.shape[plane.through]}`;
    const link = this.held ? "not linked" : `linked by the ${LINK_WORDS[this.by]}`;
    const share = Math.round((100 * volume.count) / volume.slabs);
    const loading = volume.complete ? "" : `\nloading ${share} %`;
    pane.title.textContent = `${scene.name}, ${scene.when}\n${place}, ${link}${loading}`;
    pane.host.dataset.number = number;
    pane.host.classList.toggle("active", this.takesKeys());
  }

  // ---- controls over the planes

  box() {
    return this.viewer.root.querySelector(".beside");
  }

  fillChoices() {
    const select = this.box().querySelector("select");
    const choices = this.scene?.choices ?? [];
    select.hidden = choices.length < 2;
    if (select.options.length !== choices.length) {
      select.replaceChildren(...choices.map(({ id, words }) => new Option(words, id)));
    }
    select.value = this.asked || this.scene?.id;
    select.onchange = () => {
      this.choose(select.value);
      this.viewer.focus();
    };
  }

  drawControls() {
    const { bars, taste } = this.viewer;
    const { scene } = this;
    bars.find("button[data-key='j']").hidden = !scene;
    this.box().hidden = !scene || !taste.prior || taste.layout === "three";
    if (!scene) return;
    bars.text("button[data-key='j']", scene.name);
    bars.press("j", Boolean(taste.prior));
    bars.text("button[data-key='k']", this.held ? "Link" : "Linked");
    bars.press("k", !this.held);
    bars.find("button[data-key='k']").hidden = !this.shown;
    const expected = this.asked && this.asked !== scene.id;
    const reading = expected || (!scene.volume && !scene.fault);
    bars.text(".note", reading ? "reading ..." : scene.fault || this.volume?.fault || "");
  }
}
