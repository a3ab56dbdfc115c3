// The heat map of a model over the slices: loading, interpolation, colours, legend.

import { fromPicture, mapPoint } from "./geometry.js";
import { slabRange } from "./slab.js";
import { MOST_REFUSALS, RETRY_MS } from "./volume.js";

/** Values of 0 to 255; below the first the slice shows through, from the second it does not. */
const CLEAR = 13;
const FULL = 64;
const OPACITY_STEP = 0.1;

// Every 16th colour of "inferno" of matplotlib (CC0), which is perceptually uniform: equal steps of
// the value look equal, also in greys and to colour-blind readers. The colours between them are
// interpolated; no channel differs by more than 7 of 255 from the original.
const INFERNO =
  "000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4";

/** Return the 256 colours of an ImageData buffer for the values of a map. */
export function heatColors() {
  const stops = INFERNO.split(" ").map((stop) => [0, 2, 4].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, value) => {
    const at = (value / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const [red, green, blue] = stops[low].map((from, channel) =>
      Math.round(from + (at - low) * (stops[low + 1][channel] - from)));
    const alpha = Math.round(255 * Math.min(Math.max((value - CLEAR) / (FULL - CLEAR), 0), 1));
    return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}

/**
 * Interpolate a map at places of a plane's picture, every `every.across` columns and `every.down`
 * rows; of a slab the highest value of its layers.
 *
 * `map` is {values, shape, matrix}. The matrix maps an index of the stack to an index of the map;
 * the two grids may be turned against each other. Outside the cells the value is 0.
 */
export function sampleHeat(map, plane, shape, layers, every) {
  const columns = Math.ceil(shape[plane.across] / every.across);
  const rows = Math.ceil(shape[plane.down] / every.down);
  const out = new Uint8Array(columns * rows);
  const across = map.matrix.map((row) => row[plane.across] * every.across);
  const sign = plane.upward ? -1 : 1;
  const down = map.matrix.map((row) => row[plane.down] * every.down * sign);
  for (const layer of layers) {
    const first = fromPicture(plane, shape, (every.across - 1) / 2, (every.down - 1) / 2, layer);
    const start = mapPoint(map.matrix, first);
    for (let row = 0; row < rows; row += 1) {
      const at = start.map((value, axis) => value + row * down[axis]);
      sampleRow(map, at, across, out.subarray(row * columns, (row + 1) * columns));
    }
  }
  return out;
}

/** Interpolate along one row; `out` keeps the higher value. */
function sampleRow(map, at, step, out) {
  const [sizeI, sizeJ, sizeK] = map.shape;
  let [i, j, k] = at;
  for (let column = 0; column < out.length; column += 1) {
    if (i > -0.5 && j > -0.5 && k > -0.5 && i < sizeI - 0.5 && j < sizeJ - 0.5 && k < sizeK - 0.5) {
      const value = interpolate(map, i, j, k);
      if (value > out[column]) out[column] = value;
    }
    i += step[0];
    j += step[1];
    k += step[2];
  }
}

/** Return the value at an index inside the cells; beyond the outer centres the nearest one. */
function interpolate({ values, shape, live }, i, j, k) {
  const [sizeI, sizeJ, sizeK] = shape;
  const x = i < 0 ? 0 : i > sizeI - 1 ? sizeI - 1 : i;
  const y = j < 0 ? 0 : j > sizeJ - 1 ? sizeJ - 1 : j;
  const z = k < 0 ? 0 : k > sizeK - 1 ? sizeK - 1 : k;
  const x0 = Math.floor(x);
  const y0 = Math.floor(y);
  const z0 = Math.floor(z);
  const base = x0 + sizeI * (y0 + sizeJ * z0);
  if (!live[base]) return 0;
  const dx = x0 + 1 < sizeI ? 1 : 0;
  const dy = y0 + 1 < sizeJ ? sizeI : 0;
  const dz = z0 + 1 < sizeK ? sizeI * sizeJ : 0;
  const fx = x - x0;
  const fy = y - y0;
  const far = base + dz;
  const a = values[base] + fx * (values[base + dx] - values[base]);
  const b = values[base + dy] + fx * (values[base + dy + dx] - values[base + dy]);
  const c = values[far] + fx * (values[far + dx] - values[far]);
  const d = values[far + dy] + fx * (values[far + dy + dx] - values[far + dy]);
  const near = a + fy * (b - a);
  return near + (z - z0) * (c + fy * (d - c) - near);
}

/** Return for each cell whether it or a neighbour after it along any axes would be seen. */
export function findLive(values, shape) {
  const live = new Uint8Array(values.length);
  for (let place = 0; place < live.length; place += 1) live[place] = values[place] >= CLEAR ? 1 : 0;
  let step = 1;
  for (const size of shape) {
    const length = step * size;
    for (let first = 0; first < live.length; first += length) {
      const end = first + length - step;
      for (let place = first; place < end; place += 1) live[place] |= live[place + step];
    }
    step = length;
  }
  return live;
}

/**
 * Return how many columns, rows and layers of a plane fit between two samples of a map.
 *
 * A cell is sampled twice along each axis; in a slab once, because it has many layers.
 */
export function samplingOf({ matrix }, plane, slab) {
  const cells = slab.mode === "single" ? 0.5 : 1;
  const voxels = (axis) => cells / Math.hypot(...matrix.map((row) => row[axis]));
  const [across, down, through] = ["across", "down", "through"].map((name) =>
    Math.max(Math.floor(voxels(plane[name])), 1));
  return { across, down, through };
}

/** The part of a map over one pane: a small picture, drawn with the image. */
export class HeatLayer {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d");
    this.painted = "";
    this.colors = heatColors();
  }

  /** Draw over the voxels of a plane, one pixel for each; `shown` is what `Heat.look` returns. */
  draw(context, pane, { map, opacity }) {
    const every = samplingOf(map, pane.plane, pane.slab);
    const { mode, layers } = pane.slab;
    const state = [map.id, pane.number, mode, layers].join();
    if (state !== this.painted) this.paint(map, pane, every);
    this.painted = state;
    context.globalAlpha = opacity;
    context.drawImage(this.canvas, 0, 0, this.canvas.width * every.across, this.canvas.height * every.down);
    context.globalAlpha = 1;
  }

  paint(map, pane, every) {
    const { plane, shape } = pane;
    const [low, high] = slabRange(shape[plane.through], pane.number, pane.slab);
    const layers = [];
    for (let layer = low; layer <= high; layer += every.through) layers.push(layer);
    const values = sampleHeat(map, plane, shape, layers, every);
    this.canvas.width = Math.ceil(shape[plane.across] / every.across);
    this.canvas.height = Math.ceil(shape[plane.down] / every.down);
    const pixels = this.context.createImageData(this.canvas.width, this.canvas.height);
    const colors = new Uint32Array(pixels.data.buffer);
    for (let place = 0; place < values.length; place += 1) colors[place] = this.colors[values[place]];
    this.context.putImageData(pixels, 0, 0);
  }
}

/** The maps of a case, which one is shown, and its legend. */
export class Heat {
  constructor(viewer, host) {
    this.viewer = viewer;
    this.host = host;
    this.facts = { maps: [], words: "" };
    this.loaded = new Map();
    this.choice = host.querySelector("select");
    this.slider = host.querySelector("input");
    this.choice.addEventListener("change", () => this.choose(this.choice.value));
    this.slider.addEventListener("input", () => this.setOpacity(Number(this.slider.value) / 100));
    for (const control of [this.choice, this.slider]) {
      control.addEventListener("change", () => viewer.focus());
    }
    drawScale(host.querySelector("canvas"));
  }

  /** What the reader chose, which holds for all scans or all radiographs. */
  get taste() {
    return this.viewer.taste.heat;
  }

  /** The chosen map; another case may lack the one that was chosen before. */
  get chosen() {
    const { maps } = this.facts;
    return maps.find(({ title }) => title === this.taste.title) ?? maps[0];
  }

  update(facts) {
    this.facts = facts;
    this.choice.replaceChildren(...facts.maps.map(({ title }) => new Option(title, title)));
    for (const id of this.loaded.keys()) {
      if (!facts.maps.some((map) => map.id === id)) this.loaded.delete(id);
    }
    this.show();
  }

  toggle() {
    if (!this.chosen) return this.viewer.bars.say(this.facts.words);
    this.taste.shown = !this.taste.shown;
    return this.show();
  }

  next() {
    const { maps } = this.facts;
    if (maps.length) this.choose(maps[(maps.indexOf(this.chosen) + 1) % maps.length].title);
  }

  choose(title) {
    Object.assign(this.taste, { title, shown: true });
    this.show();
  }

  fade(steps) {
    this.setOpacity(this.taste.opacity + steps * OPACITY_STEP);
  }

  setOpacity(opacity) {
    this.taste.opacity = Math.min(Math.max(opacity, 0), 1);
    this.show();
  }

  /** Show the legend of the chosen map, and load the map if that was not done yet. */
  show() {
    const shown = Boolean(this.taste.shown && this.chosen);
    this.host.hidden = !shown;
    if (shown) {
      this.choice.value = this.chosen.title;
      this.slider.value = Math.round(this.taste.opacity * 100);
      this.host.querySelector(".meaning").textContent = this.chosen.meaning;
      this.load(this.chosen);
    }
    this.viewer.redraw();
  }

  /** Return what the panes draw, or null. */
  look() {
    const map = this.taste.shown && this.chosen ? this.loaded.get(this.chosen.id) : null;
    this.host.dataset.loaded = map ? map.title : "";
    return map?.values ? { map, opacity: this.taste.opacity } : null;
  }

  async load(facts) {
    if (this.loaded.has(facts.id)) return;
    this.loaded.set(facts.id, null);
    const values = await fetchCells(`${this.viewer.scene.volume.path}/${facts.id}/0`, facts.shape);
    if (!values) {
      this.loaded.delete(facts.id);
      this.viewer.bars.say("The heat map was not loaded: reload the page.");
      return;
    }
    this.loaded.set(facts.id, { ...facts, values, live: findLive(values, facts.shape) });
    this.viewer.redraw();
  }

  /** Return the shown value at an index of the stack as text; empty if no map is shown. */
  valueAt(index) {
    const map = this.look()?.map;
    if (!map) return "";
    const at = mapPoint(map.matrix, index);
    const inside = at.every((value, axis) => value > -0.5 && value < map.shape[axis] - 0.5);
    return inside ? `, map ${(interpolate(map, ...at) / 255).toFixed(2)}` : "";
  }
}

/** Load the cells of a map; null if they do not arrive. A refusal can be due to a lost connection. */
async function fetchCells(address, shape) {
  for (let refusals = 0; refusals < MOST_REFUSALS; refusals += 1) {
    try {
      const answer = await fetch(address, { credentials: "same-origin", cache: "no-store" });
      const values = answer.ok ? new Uint8Array(await answer.arrayBuffer()) : null;
      if (values) return values.length === shape[0] * shape[1] * shape[2] ? values : null;
    } catch {
      // tried again, as after a refusal
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
  return null;
}

/** Draw the colours from 0 to 1 as the slices show them over grey. */
function drawScale(canvas) {
  const context = canvas.getContext("2d");
  heatColors().forEach((color, value) => {
    const [red, green, blue, alpha] = [0, 8, 16, 24].map((bits) => (color >>> bits) & 255);
    context.fillStyle = `rgba(${red}, ${green}, ${blue}, ${alpha / 255})`;
    context.fillRect((value / 256) * canvas.width, 0, canvas.width / 256 + 1, canvas.height);
  });
}
