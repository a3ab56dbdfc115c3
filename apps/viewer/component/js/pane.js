// One plane on the screen: an image canvas, and above it a canvas for rings, rulers and crosshair.

import { fromPicture, planeSize, scaleBarMm, toPicture } from "./geometry.js";
import { paint } from "./grey.js";
import { HeatLayer } from "./heat.js";
import { drawText } from "./rings.js";
import { extractPlane, slabRange } from "./slab.js";

const NEAREST_FROM_PX = 8;
const LEAST_ZOOM = 0.5;
const MOST_ZOOM = 60;
const FONT = "12px sans-serif";

export class Pane {
  constructor(host, plane) {
    this.plane = plane;
    this.zoom = 1;
    this.pan = { x: 0, y: 0 };
    this.number = 0;
    this.host = host;
    this.host.dataset.plane = plane.name;
    this.image = host.querySelector(".image");
    this.overlay = host.querySelector(".overlay");
    this.title = host.querySelector(".title");
    this.wait = host.querySelector(".wait");
    for (const side of ["left", "right", "top", "bottom"]) {
      host.querySelector(`.letter.${side}`).textContent = plane.letters[side];
    }
    this.imageContext = this.image.getContext("2d", { alpha: false });
    this.overlayContext = this.overlay.getContext("2d");
    this.source = document.createElement("canvas");
    this.painted = "";
    this.seen = "";
    this.heat = new HeatLayer();
  }

  /** Show another volume, or the same one again. */
  setVolume(volume) {
    this.volume = volume;
    this.shape = volume.shape;
    this.spacing = volume.facts.spacing;
    const { columns, rows } = planeSize(this.plane, this.shape);
    this.source.width = columns;
    this.source.height = rows;
    this.sourceContext = this.source.getContext("2d", { alpha: false });
    this.pixels = this.sourceContext.createImageData(columns, rows);
    this.colors = new Uint32Array(this.pixels.data.buffer);
    this.values = new Int16Array(columns * rows);
    this.painted = "";
    this.seen = "";
    this.reset();
  }

  reset() {
    this.zoom = 1;
    this.pan = { x: 0, y: 0 };
  }

  /** Fit the canvases to the pane; returns whether its size changed. */
  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.host.clientWidth * ratio);
    const height = Math.round(this.host.clientHeight * ratio);
    if (this.image.width === width && this.image.height === height) return false;
    for (const canvas of [this.image, this.overlay]) {
      canvas.width = width;
      canvas.height = height;
    }
    this.ratio = ratio;
    return true;
  }

  get visible() {
    return this.host.clientWidth > 0 && this.host.clientHeight > 0;
  }

  pxPerMm() {
    const { columns, rows } = planeSize(this.plane, this.shape);
    const across = this.host.clientWidth / (columns * this.spacing[this.plane.across]);
    const down = this.host.clientHeight / (rows * this.spacing[this.plane.down]);
    return Math.min(across, down) * this.zoom;
  }

  pxPerVoxel() {
    const px = this.pxPerMm();
    return {
      across: px * this.spacing[this.plane.across],
      down: px * this.spacing[this.plane.down],
    };
  }

  /** Return the top left corner of the picture in CSS pixels of the pane. */
  corner() {
    const px = this.pxPerVoxel();
    const { columns, rows } = planeSize(this.plane, this.shape);
    return {
      x: (this.host.clientWidth - columns * px.across) / 2 + this.pan.x,
      y: (this.host.clientHeight - rows * px.down) / 2 + this.pan.y,
    };
  }

  /** Return the CSS pixel of a picture column and row; the middle of a voxel is a whole number. */
  toScreen(column, row) {
    const px = this.pxPerVoxel();
    const corner = this.corner();
    return { x: corner.x + (column + 0.5) * px.across, y: corner.y + (row + 0.5) * px.down };
  }

  /** Return the continuous index [column, row, slice] under a CSS pixel of the pane. */
  toIndex(x, y) {
    const px = this.pxPerVoxel();
    const corner = this.corner();
    const column = (x - corner.x) / px.across - 0.5;
    const row = (y - corner.y) / px.down - 0.5;
    return fromPicture(this.plane, this.shape, column, row, this.number);
  }

  /** Zoom by a factor and keep the place under a CSS pixel where it is. */
  zoomAt(x, y, factor) {
    const zoom = Math.min(Math.max(this.zoom * factor, LEAST_ZOOM), MOST_ZOOM);
    const grown = zoom / this.zoom;
    const middle = { x: this.host.clientWidth / 2, y: this.host.clientHeight / 2 };
    this.pan.x = (x - middle.x) * (1 - grown) + this.pan.x * grown;
    this.pan.y = (y - middle.y) * (1 - grown) + this.pan.y * grown;
    this.zoom = zoom;
  }

  /** Return the slab of this plane for a thickness in mm; at least two layers. */
  slabOf({ mode, mm }) {
    if (mode === "single") return { mode, layers: 1 };
    return { mode, layers: Math.max(Math.round(mm / this.spacing[this.plane.through]), 2) };
  }

  /** Return half of the extent in mm that the shown slab adds around its middle layer. */
  slabHalfMm() {
    const [low, high] = slabRange(this.shape[this.plane.through], this.number, this.slab);
    return ((high - low) / 2) * this.spacing[this.plane.through];
  }

  /** Draw the voxels; `look` is {table, version, slab, heat}. */
  drawImage(look) {
    this.slab = this.slabOf(look.slab);
    const { slab, volume } = this;
    const { heat } = look;
    const over = heat ? [heat.map.id, heat.opacity] : [];
    const state = [this.number, look.version, slab.mode, slab.layers, volume.count, ...over].join();
    if (state !== this.painted) {
      extractPlane(volume.values, this.shape, this.plane, this.number, slab, this.values);
      paint(new Uint16Array(this.values.buffer), look.table, this.colors);
      this.sourceContext.putImageData(this.pixels, 0, 0);
      if (heat) this.heat.draw(this.sourceContext, this, heat);
      this.painted = state;
    }
    const seen = [state, this.zoom, this.pan.x, this.pan.y, this.image.width, this.image.height].join();
    if (seen !== this.seen) this.scaleImage();
    this.seen = seen;
    const missing = this.plane.through === 2 && !volume.holds(this.number);
    this.wait.hidden = !missing;
  }

  /** Draw the picture of the plane at its place on the screen. */
  scaleImage() {
    const context = this.imageContext;
    const px = this.pxPerVoxel();
    const corner = this.corner();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.image.width, this.image.height);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.imageSmoothingEnabled = Math.min(px.across, px.down) < NEAREST_FROM_PX;
    const width = this.source.width * px.across;
    const height = this.source.height * px.down;
    context.drawImage(this.source, corner.x, corner.y, width, height);
  }

  /** Return the HU that the picture shows at a voxel of its plane. */
  shownAt(voxel) {
    const { column, row } = toPicture(this.plane, this.shape, voxel);
    return this.values[row * this.source.width + column];
  }

  /** Begin a new overlay; returns its context. */
  clearOverlay() {
    const context = this.overlayContext;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.host.clientWidth, this.host.clientHeight);
    context.font = FONT;
    return context;
  }

  drawCrosshair(index) {
    const context = this.overlayContext;
    const { column, row } = toPicture(this.plane, this.shape, index);
    const { x, y } = this.toScreen(column, row);
    const gap = 12;
    context.strokeStyle = "rgba(90, 200, 250, 0.75)";
    context.lineWidth = 1;
    context.beginPath();
    for (const [from, to] of [[0, x - gap], [x + gap, this.host.clientWidth]]) {
      context.moveTo(from, y);
      context.lineTo(to, y);
    }
    for (const [from, to] of [[0, y - gap], [y + gap, this.host.clientHeight]]) {
      context.moveTo(x, from);
      context.lineTo(x, to);
    }
    context.stroke();
  }

  drawRuler(ruler) {
    const context = this.overlayContext;
    const ends = [ruler.from, ruler.to].map((index) => {
      const { column, row } = toPicture(this.plane, this.shape, index);
      return this.toScreen(column, row);
    });
    context.strokeStyle = "#7fffd4";
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(ends[0].x, ends[0].y);
    context.lineTo(ends[1].x, ends[1].y);
    context.stroke();
    for (const { x, y } of ends) context.strokeRect(x - 2, y - 2, 4, 4);
    drawText(context, ruler.words, ends[1].x + 7, ends[1].y - 5, "#7fffd4");
  }

  /** Draw a bar of a round length at the lower right. */
  drawScaleBar() {
    const context = this.overlayContext;
    const px = this.pxPerMm();
    const lengthMm = scaleBarMm(Math.min(this.host.clientWidth * 0.3, 200) / px);
    const right = this.host.clientWidth - 14;
    const left = right - lengthMm * px;
    const y = this.host.clientHeight - 12;
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(left, y - 4);
    context.lineTo(left, y);
    context.lineTo(right, y);
    context.lineTo(right, y - 4);
    context.stroke();
    const words = `${lengthMm} mm`;
    drawText(context, words, right - context.measureText(words).width, y - 8, "#fff");
    this.host.dataset.scaleBar = `${lengthMm}`;
  }
}
