// The viewer: what is shown, and what the reader does with it. Drawing happens once per frame.

import { askedFor, keepInAddress, readPlace, readWindow, windowName, writePlace, writeWindow } from "./address.js";
import { Adding } from "./adding.js";
import { DECIDED, Decisions, LOCKED } from "./decisions.js";
import { Diameter } from "./diameter.js";
import { clampIndex, nearestVoxel } from "./geometry.js";
import { dragWindow, fillLookUp } from "./grey.js";
import { Heat } from "./heat.js";
import { Keyed } from "./keyed.js";
import { keepPlace, keepVolumes, keptPlace, keptVolume, taste } from "./memory.js";
import { PageButtons } from "./page.js";
import { Pane } from "./pane.js";
import { Prior } from "./prior.js";
import { readoutWords } from "./readout.js";
import { copyText, reportLine, sliceWords } from "./report.js";
import { drawRing, placeRing, ringColor } from "./rings.js";
import { Ruler } from "./ruler.js";
import { Volume } from "./volume.js";

const SLAB_MODES = ["single", "max", "mean"];
const FIRST_SLAB_MM = 10;
const MOST_LAYERS = 60;
const REPORT_MS = 150;
const AGAIN = "Accept or reject the image in the second read too.";
const LAYOUTS = ["axial", "coronal", "sagittal", "three"];

export class Viewer {
  /** `root` is the element of the component's HTML; `bars` shows texts and buttons. */
  constructor(root, bars, { send, select }) {
    this.root = root;
    this.bars = bars;
    this.table = new Uint32Array(65536);
    this.version = 0;
    this.tool = "window";
    this.lost = false;
    this.jumps = -1;
    this.decisions = new Decisions(send);
    this.adding = new Adding(this);
    this.prior = new Prior(this);
    this.diameter = new Diameter(this);
    this.keyed = new Keyed(this);
    this.tools = { add: this.adding, diameter: this.diameter, ruler: new Ruler(this) };
    this.page = new PageButtons(this);
    this.heat = new Heat(this, root.querySelector(".heat"));
    this.sendSelected = select;
    this.frame = 0;
    this.panes = [];
    this.pointer = null;
  }

  // ---- what Python sends

  update(scene) {
    const revealed = this.scene?.hidden && !scene.hidden;
    this.scene = scene;
    this.decisions.answer(scene.answered);
    if (this.volume?.facts.id !== scene.volume.id) this.openVolume();
    else if (revealed) this.showRevealed();
    this.prior.update(scene.prior);
    this.reported ??= scene.chosen || (this.targets()[0]?.id ?? "");
    this.follow(scene.jump);
    this.bars.update(this);
    this.page.answered();
    this.heat.update(scene.heat);
    this.redraw();
  }

  openVolume() {
    const { scene } = this;
    this.taste = taste(scene.picture ? "picture" : "scan");
    const asked = askedFor();
    this.taste.window ??= readWindow(asked[windowName(scene.picture)], scene.windows) ?? { ...scene.windows[0] };
    this.taste.layout ??= !scene.picture && LAYOUTS.includes(asked.planes) ? asked.planes : "axial";
    this.rulers = [];
    this.slab = { mode: "single", mm: FIRST_SLAB_MM };
    this.showReference = !scene.decides && !scene.picture;
    this.showOthers = false;
    this.restore(keptPlace(scene.volume.id) ?? this.askedPlace());
    const held = keptVolume(scene.volume.id);
    this.volume = held ?? new Volume(scene.volume, () => {});
    this.volume.onChange = () => this.redraw();
    keepVolumes([this.volume]);
    if (!held) this.volume.load(Math.round(this.index[2]));
    if (!this.panes.length) {
      const hosts = this.root.querySelectorAll(".pane");
      this.panes = scene.planes.map((plane, place) => new Pane(hosts[place], plane));
      this.bars.connectPanes(this);
    }
    for (const pane of this.panes) pane.setVolume(this.volume);
    this.active = this.panes[0];
    this.setLayout(this.taste.layout);
    this.applyWindow();
  }

  restore(place) {
    const { shape } = this.scene.volume;
    const targets = this.targets();
    const first = targets[0];
    const middle = shape.map((count) => Math.floor(count / 2));
    this.index = place?.index ?? ((first && this.voxelOf(first)) || middle);
    const chosen = targets.find(({ id }) => id === place?.selected) ?? first;
    this.selected = chosen?.id ?? null;
    this.rulers = place?.rulers ?? [];
  }

  /** Return the place in the address that the page was loaded with, or undefined. */
  askedPlace() {
    const index = readPlace(askedFor().at, this.scene.volume);
    if (!index) return undefined;
    const isThere = (ring) => this.voxelOf(ring)?.every((value, axis) => value === index[axis]);
    return { index, selected: this.targets().find(isThere)?.id };
  }

  /** Keep window, planes and place in the address. */
  keepAddress() {
    const { picture, windows, volume } = this.scene;
    keepInAddress({
      [windowName(picture)]: writeWindow(this.taste.window, windows),
      planes: picture ? undefined : this.taste.layout,
      at: picture ? null : writePlace(this.index, volume),
    });
  }

  /** Choose and show the first of the marks that the end of the first read revealed. */
  showRevealed() {
    const first = this.targets().find(({ group }) => group === "mark");
    if (first) this.select(first);
    this.focusUnlessTyping(); // the button of the page that was pressed is gone
  }

  /** Finish the first read, or mark the case as reviewed; an image is, once it has a verdict. */
  finish() {
    const { question, picture, first_read } = this.scene;
    if (question) return undefined;
    if (!picture) return this.page.press("finish");
    const [whole] = this.rings();
    if (whole.verdict === "undecided") return this.bars.say("Accept or reject the image first.");
    if (whole.repeated && !this.decisions.pending(whole.id)) return this.bars.say(AGAIN);
    return this.page.press(first_read ? "finish" : "unread");
  }

  /** Go to the mark that was chosen on the page, once. */
  follow(jump) {
    if (!jump || jump.count === this.jumps) return;
    const isFirst = this.jumps === -1;
    this.jumps = jump.count;
    if (isFirst && keptPlace(this.scene.volume.id)?.jump === jump.count) return;
    if (jump.count && !jump.id) return this.showDisagreement(jump.center);
    const ring = this.scene.rings.find(({ id }) => id === jump.id);
    if (!ring) return;
    if (["included", "excluded"].includes(ring.group)) this.showReference = true;
    this.select(ring);
    clearTimeout(this.reporting);
    this.reported = ring.id;
    this.focus();
  }

  /** Show the heat map of a radiograph, or at an index of a stack under the crosshair. */
  showDisagreement(center) {
    this.selected = null;
    this.taste.heat.shown = true;
    if (center) {
      this.index = clampIndex(this.scene.volume.shape, center.map(Math.round));
      this.setLayout("three");
    }
    this.focus();
  }

  /** Tell the page which ring is chosen, once it has been for a moment. */
  reportSelected() {
    const selected = this.selected ?? "";
    if (selected === this.reported || this.page.busy) return;
    this.reported = selected;
    clearTimeout(this.reporting);
    const report = { id: selected, jump: this.jumps };
    this.reporting = setTimeout(() => this.sendSelected(report), REPORT_MS);
  }

  /**
   * Report the chosen ring only when the page has reacted to a button: Streamlit forgets a press of
   * a button if another event interrupts what it does.
   */
  holdReport() {
    clearTimeout(this.reporting);
    this.reported = null; // the next scene tells what the page knows
  }

  // ---- marks and decisions

  /** The rings with what the reader did and Python has not answered yet. */
  rings() {
    return this.keyed.applyTo(this.adding.applyTo(this.decisions.applyTo(this.scene.rings)));
  }

  /** The rings that the keys n and p visit: added nodules, and marks or the INDEX's nodules. */
  targets() {
    const { decides } = this.scene;
    const visited = decides ? ["mark", "added", "whole"] : ["added", "included", "excluded"];
    return this.rings().filter(({ group, id }) => visited.includes(group) && id !== "draft");
  }

  current() {
    return this.targets().find(({ id }) => id === this.selected) ?? null;
  }

  /** Return the voxel of a mark; null if the mark lies outside the scan. */
  voxelOf(ring) {
    return nearestVoxel(this.scene.volume.shape, ring.center);
  }

  select(ring) {
    this.selected = ring.id;
    this.index = this.voxelOf(ring) ?? this.index;
    this.redraw();
  }

  step(by) {
    const targets = this.targets();
    if (!targets.length) return;
    const at = targets.findIndex(({ id }) => id === this.selected);
    const next = at < 0 ? 0 : (at + by + targets.length) % targets.length;
    this.select(targets[next]);
  }

  /** Accept or reject the chosen mark; rejecting an added nodule withdraws it. */
  decide(verdict) {
    const ring = this.current();
    if (!ring || !DECIDED.includes(ring.group)) return this.bars.say("No mark is chosen.");
    if (this.lost) return this.bars.say("Nothing is being saved.");
    if (ring.locked) return this.bars.say(LOCKED);
    const isAdded = ring.group === "added";
    if (isAdded && verdict === "accept") return this.bars.say("An added nodule needs no more.");
    const wanted = isAdded ? "undecided" : verdict;
    const again = ring.repeated && !this.decisions.pending(ring.id);
    if (ring.verdict !== wanted || again) this.decisions.decide(ring.id, wanted);
    return this.redraw();
  }

  undo() {
    if (this.lost) return this.bars.say("Nothing is being saved.");
    const id = this.decisions.undo(this.scene.undoable);
    if (id === null) return this.bars.say("There is nothing to undo.");
    const ring = this.targets().find((other) => other.id === id);
    return ring ? this.select(ring) : this.redraw();
  }

  setLost(lost) {
    if (this.lost && !lost && this.decisions.waiting.length) this.decisions.sendAll();
    this.lost = lost;
    this.redraw();
  }

  // ---- place, window, slab, layout

  scroll(by) {
    if (this.prior.takesKeys()) return this.prior.scroll(by);
    const { through } = this.active.plane;
    const index = [...this.index];
    index[through] = Math.round(index[through]) + by;
    this.index = clampIndex(this.volume.shape, index);
    return this.redraw();
  }

  choosePreset(number) {
    const preset = this.scene.windows[number];
    if (!preset) return;
    this.taste.window = { ...preset };
    this.applyWindow();
  }

  dragWindow(dx, dy) {
    this.taste.window = dragWindow(this.taste.window, dx, dy);
    this.applyWindow();
  }

  invert() {
    this.taste.inverted = !this.taste.inverted;
    this.applyWindow();
  }

  applyWindow() {
    const { center, width } = this.taste.window;
    fillLookUp(this.table, center, width, this.taste.inverted);
    this.version += 1;
    this.redraw();
  }

  reset() {
    if (this.bars.helpShown()) return this.toggleHelp();
    for (const pane of this.panes) pane.reset();
    this.slab.mode = "single";
    this.taste.inverted = false;
    return this.choosePreset(0);
  }

  zoom(pane, x, y, factor) {
    pane.zoomAt(x, y, factor);
    this.redraw();
  }

  move(pane, dx, dy) {
    pane.pan.x += dx;
    pane.pan.y += dy;
    this.redraw();
  }

  /** Show one plane by its name, or all ("three"). */
  setLayout(layout) {
    this.taste.layout = layout;
    this.root.dataset.layout = layout;
    if (layout !== "three") this.active = this.panes.find(({ plane }) => plane.name === layout);
    this.redraw();
  }

  toggleLayout() {
    if (this.scene.picture) return;
    this.setLayout(this.taste.layout === "three" ? this.active.plane.name : "three");
  }

  activate(pane) {
    this.prior.active = false;
    if (this.active === pane) return;
    this.active = pane;
    this.redraw();
  }

  nextSlabMode() {
    if (this.scene.picture) return;
    const next = (SLAB_MODES.indexOf(this.slab.mode) + 1) % SLAB_MODES.length;
    this.slab.mode = SLAB_MODES[next];
    this.redraw();
  }

  thicken(by) {
    if (this.scene.picture) return;
    if (this.slab.mode === "single") this.slab.mode = "max";
    const { layers } = this.active.slabOf(this.slab);
    const spacing = this.active.spacing[this.active.plane.through];
    this.slab.mm = Math.min(Math.max(layers + by, 2), MOST_LAYERS) * spacing;
    this.redraw();
  }

  toggleMarks() {
    this.taste.hidden = !this.taste.hidden;
    this.redraw();
  }

  toggleOthers() {
    this.showOthers = !this.showOthers;
    this.redraw();
  }

  toggleReference() {
    this.showReference = !this.showReference;
    this.redraw();
  }

  toggleHelp() {
    this.bars.toggleHelp();
  }

  // ---- clicks, rulers, readings

  click(pane, x, y) {
    const visited = new Set(this.targets().map(({ id }) => id));
    const ring = this.shownRings().find((other) => {
      const place = placeRing(other, pane);
      return place && Math.hypot(place.x - x, place.y - y) <= place.radius + 4;
    });
    if (ring && visited.has(ring.id)) this.selected = ring.id;
    this.index = clampIndex(this.volume.shape, pane.toIndex(x, y).map(Math.round));
    this.redraw();
  }

  /** Return the tool that the mouse holds, unless it is the window. */
  hand() {
    return this.tools[this.tool] ?? null;
  }

  chooseTool(tool) {
    this.hand()?.cancel();
    this.tool = tool;
    this.redraw();
  }

  toggleRuler() {
    if (!this.scene.scaled) return this.bars.say("The file gives no scale.");
    return this.chooseTool(this.tool === "ruler" ? "window" : "ruler");
  }

  toggleDiameter() {
    if (!this.scene.scaled) return this.bars.say("The file gives no scale.");
    return this.chooseTool(this.tool === "diameter" ? "window" : "diameter");
  }

  toggleAdding() {
    if (this.scene.picture) return this.bars.say("Nodules are added in scans.");
    if (this.lost) return this.bars.say("Nothing is being saved.");
    return this.chooseTool(this.tool === "add" ? "window" : "add");
  }

  /** Take one step back: what was begun, the tool, the help, the view. */
  escape() {
    if (this.hand()?.cancel()) return this.redraw();
    if (this.tool !== "window") return this.chooseTool("window");
    return this.reset();
  }

  removeRuler() {
    if (!this.diameter.cancel()) this.rulers.pop();
    this.redraw();
  }

  /** Copy the place and diameter of the chosen mark in words, for the PACS. */
  async copy() {
    const ring = this.current();
    if (!ring || ring.group === "whole") return this.bars.say("No mark is chosen.");
    const words = reportLine(ring.place, sliceWords(this.scene.volume.images, this.voxelOf(ring)), ring);
    const copied = await copyText(words);
    return this.bars.say(copied ? `Copied: ${words}` : "This browser does not allow copying.");
  }

  /** Show from now on what is under a CSS pixel of a pane, also when the slice changes. */
  readAt(pane, x, y) {
    this.pointer = { pane, x, y };
    this.read();
  }

  readNothing() {
    this.pointer = null;
    this.read();
  }

  read() {
    const { pointer } = this;
    this.bars.read(pointer?.pane.visible ? readoutWords(this, pointer) : "");
  }

  // ---- drawing

  focus() {
    this.root.focus({ preventScroll: true });
  }

  focusUnlessTyping() {
    const typing = ["INPUT", "TEXTAREA", "SELECT"];
    if (!typing.includes(document.activeElement?.tagName)) this.focus();
  }

  shownRings() {
    if (this.taste.hidden) return [];
    const shown = ["mark", "added"];
    if (this.showReference) shown.push("included", "excluded");
    if (this.showOthers) shown.push("other");
    return this.rings().filter(({ group }) => shown.includes(group));
  }

  redraw() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (this.volume && this.root.isConnected) this.draw();
    });
  }

  draw() {
    this.prior.arrange();
    const look = { table: this.table, version: this.version, slab: this.slab, heat: this.heat.look() };
    for (const pane of this.panes) {
      if (!pane.visible) continue;
      pane.resize();
      pane.number = Math.round(this.index[pane.plane.through]);
      pane.drawImage(look);
      this.drawOverlay(pane);
    }
    this.prior.draw(look);
    this.read();
    this.bars.draw(this);
    this.reportSelected();
    const { id } = this.scene.volume;
    const { index, selected, rulers } = this;
    keepPlace(id, { index, selected, rulers, jump: this.jumps });
    this.keepAddress();
  }

  drawOverlay(pane) {
    const context = pane.clearOverlay();
    if (this.taste.layout === "three") pane.drawCrosshair(this.index);
    const shown = this.shownRings().toReversed();
    // The chosen ring is drawn after the others, and before it the ring with the highest score. The
    // dashes of other arms come last, because they let a ring below be seen.
    const rank = ({ id, group }) => (group === "other" ? 2 : Number(id === this.selected));
    shown.sort((one, other) => rank(one) - rank(other));
    for (const ring of shown) {
      const place = placeRing(ring, pane);
      if (!place) continue;
      const color = ringColor(ring, this.showReference);
      const selected = ring.id === this.selected;
      drawRing(context, ring, place, { color, selected, showOutcome: this.showReference });
    }
    for (const ruler of this.rulers) {
      if (ruler.plane !== pane.plane.name || ruler.number !== pane.number) continue;
      if (!ruler.mm) pane.drawRuler(ruler);
    }
    this.diameter.draw(pane, context);
    if (this.scene.scaled) pane.drawScaleBar();
  }
}
