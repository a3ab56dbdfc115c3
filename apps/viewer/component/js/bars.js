// The bars above and below the planes: buttons, texts, the help card, and the notice on top.

import { DECIDED } from "./decisions.js";
import { fillHelp, GOING, runKey } from "./keys.js";
import { connectPointer } from "./pointer.js";
import { imageWords, shortPlace, sliceWords } from "./report.js";

const SLAB_WORDS = { single: "Single", max: "MIP", mean: "Mean" };
const VERDICT_WORDS = { accept: "accepted", reject: "rejected", undecided: "undecided", added: "added" };
const PRESETS = ["1", "2", "3", "4", "5"];
const ON_SCANS = ["a", "h", "m", "c"];
const NOUNS = { mark: "Mark", added: "Added nodule", included: "Nodule", excluded: "Excluded" };
const SAID_MS = 3500;
const SHORT_PRESETS = { "soft tissue": "Soft", mediastinum: "Mediast." };

export class Bars {
  constructor(root) {
    this.root = root;
    this.find = (name) => root.querySelector(name);
  }

  /** Connect buttons and keys; called once. */
  connect(viewer) {
    this.viewer = viewer;
    this.root.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-key], button[data-layout]");
      if (!button) return;
      if (button.dataset.layout) viewer.setLayout(button.dataset.layout);
      else runKey(viewer, button.dataset.key);
      viewer.focus();
    });
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Tab") return;
      event.stopPropagation(); // r and c would make Streamlit run again or clear its cache
      if (event.target.closest("select")) return;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const onButton = event.target.closest("button") && [" ", "Enter"].includes(event.key);
      if (onButton) return;
      const taken = viewer.page.takes(event.key) || (event.repeat && GOING.includes(event.key));
      if (taken || runKey(viewer, event.key)) event.preventDefault();
    });
  }

  connectPanes(viewer) {
    for (const pane of viewer.panes) connectPointer(viewer, pane);
    new ResizeObserver(() => viewer.redraw()).observe(this.find(".planes"));
  }

  /** Show what changes only when Python sends something. */
  update(viewer) {
    const { scene } = viewer;
    fillHelp(this.find(".help dl"), scene);
    for (const key of PRESETS) {
      const preset = scene.windows[key - 1];
      const button = this.find(`button[data-key="${key}"]`);
      button.hidden = !preset;
      button.title = preset ? `Window: ${preset.name} (${key})` : "";
      button.textContent = preset ? presetLabel(preset.name) : "";
    }
    for (const key of ON_SCANS) this.find(`button[data-key="${key}"]`).hidden = scene.picture;
    this.find(".layouts").hidden = scene.picture;
    for (const key of ["l", "d"]) this.find(`button[data-key="${key}"]`).hidden = !scene.scaled;
    this.find("button[data-key='O']").hidden = !scene.rings.some(({ group }) => group === "other");
    this.find("button[data-key='y']").hidden = !scene.decides;
    this.root.dataset.refused = scene.refused;
    this.find(".ask").hidden = !scene.question;
    this.text(".ask", `${scene.question} y: yes, n: no`);
    this.find(".refused").hidden = !scene.refused;
    this.find(".step").hidden = scene.picture || !viewer.targets().length;
    const hasReference = scene.rings.some(({ group }) => ["included", "excluded"].includes(group));
    this.find("button[data-key='g']").hidden = !hasReference || !scene.decides;
  }

  /** Show what changes with every frame. */
  draw(viewer) {
    const { taste, slab, volume, scene } = viewer;
    const { center, width } = taste.window;
    this.text(".level", `L ${Math.round(center)}  W ${Math.round(width)}`);
    const preset = scene.windows.findIndex((w) => w.center === center && w.width === width);
    for (const number of scene.windows.keys()) this.press(`${number + 1}`, number === preset);
    this.press("i", taste.inverted);
    this.press("l", viewer.tool === "ruler");
    this.press("d", viewer.tool === "diameter");
    this.press("O", viewer.showOthers);
    this.press("a", viewer.tool === "add");
    this.press("h", !taste.hidden);
    this.press("o", taste.heat.shown && scene.heat.maps.length > 0);
    this.press("g", viewer.showReference);
    this.press("m", slab.mode !== "single");
    for (const button of this.root.querySelectorAll("button[data-layout]")) {
      button.setAttribute("aria-pressed", String(button.dataset.layout === taste.layout));
    }
    this.drawSlab(viewer);
    this.drawPanes(viewer);
    this.drawMark(viewer);
    this.drawNotice(viewer);
    const [i, j, k] = viewer.index;
    const { tool, selected } = viewer;
    Object.assign(this.root.dataset, { i, j, k, level: center, width, tool, selected });
    this.root.dataset.draft = (viewer.adding.draft ?? viewer.keyed.draft)?.ring.diameter.toFixed(1) ?? "";
    this.root.dataset.ruler = viewer.rulers.at(-1)?.words ?? "";
    this.root.dataset.loaded = volume.complete ? "all" : `${volume.count}`;
    const share = Math.round((100 * volume.count) / volume.slabs);
    this.text(".loading", volume.complete || volume.fault ? "" : `loading ${share} %`);
  }

  drawSlab({ slab, active }) {
    const single = slab.mode === "single";
    this.text("button[data-key='m']", SLAB_WORDS[slab.mode]);
    const mm = active.slabOf(slab).layers * active.spacing[active.plane.through];
    this.text(".thickness", single ? "" : `${mm.toFixed(1)} mm`);
    this.find("button[data-key='+']").hidden = single;
    this.find("button[data-key='-']").hidden = single;
  }

  drawPanes({ panes, volume, active, slab, taste }) {
    for (const pane of panes) {
      const { plane, number, host } = pane;
      const of = volume.shape[plane.through];
      const image = imageWords(volume.facts.images, plane.through, number);
      const place = of > 1 ? ` ${number + 1}/${of}${image && ` (${image})`}` : "";
      const tilt = plane.tilt >= 1 ? `, oblique ${Math.round(plane.tilt)}°` : "";
      const mode = slab.mode === "single" ? "" : `, ${SLAB_WORDS[slab.mode]}`;
      pane.title.textContent = `${plane.title}${place}${tilt}${mode}`;
      host.dataset.number = number;
      host.classList.toggle("active", pane === active && taste.layout === "three");
    }
  }

  drawMark(viewer) {
    const targets = viewer.targets();
    const ring = viewer.current();
    const isAdded = ring?.group === "added";
    const noun = viewer.scene.picture ? "image" : "mark";
    this.find("button[data-key='y']").disabled = !["mark", "whole"].includes(ring?.group);
    this.find("button[data-key='x']").disabled = !DECIDED.includes(ring?.group) || ring.locked;
    this.text("button[data-key='y']", `Accept ${noun}`);
    this.text("button[data-key='x']", isAdded ? "Withdraw" : `Reject ${noun}`);
    if (viewer.keyed.draft) return this.text(".mark", viewer.keyed.words());
    if (!targets.length) return this.text(".mark", emptyWords(viewer.scene));
    if (!ring) return this.text(".mark", `${targets.length} to visit: n or p`);
    this.text(".mark", markWords(viewer, ring, targets));
    const { verdict } = ring;
    for (const [key, name] of [["y", "accept"], ["x", "reject"]]) this.press(key, verdict === name);
    this.find(".verdict").dataset.verdict = verdict;
    return this.text(".verdict", savedWords(viewer, ring, verdict));
  }

  drawNotice(viewer) {
    const overdue = viewer.decisions.isOverdue();
    const lost = viewer.lost || overdue;
    this.find(".lost").hidden = !lost;
    document.documentElement.classList.toggle("medkd-lost", lost);
    this.text(".fault", viewer.volume.fault);
    this.find(".fault").hidden = !viewer.volume.fault;
  }

  /** Show a message for a moment. */
  say(words) {
    this.text(".said", words);
    clearTimeout(this.saying);
    this.saying = setTimeout(() => this.text(".said", ""), SAID_MS);
  }

  read(words) {
    this.text(".readout", words);
  }

  helpShown() {
    return !this.find(".help").hidden;
  }

  toggleHelp() {
    this.find(".help").hidden = this.helpShown();
  }

  press(key, pressed) {
    this.find(`button[data-key="${key}"]`).setAttribute("aria-pressed", String(pressed));
  }

  text(name, words) {
    const element = this.find(name);
    if (element.textContent !== words) element.textContent = words;
  }
}

function presetLabel(name) {
  return SHORT_PRESETS[name] ?? name[0].toUpperCase() + name.slice(1);
}

/** Say that there is nothing to visit, without saying that no mark exists where marks are hidden. */
function emptyWords({ hidden, decides }) {
  if (hidden) return "Marks are not shown";
  return decides ? "No mark" : "No nodule";
}

/** Describe the chosen mark, nodule or image. */
function markWords(viewer, ring, targets) {
  if (ring.group === "whole") return "Image";
  const at = targets.findIndex(({ id }) => id === ring.id) + 1;
  const parts = [`${NOUNS[ring.group]} ${ring.number || ""} (${at} of ${targets.length})`];
  if (ring.score !== null) parts.push(`score ${ring.score.toFixed(3)}`);
  parts.push(ring.assumed ? "diameter unknown" : `${ring.diameter.toFixed(1)} mm`);
  parts.push(sliceWords(viewer.scene.volume.images, viewer.voxelOf(ring)));
  if (ring.place) parts.push(shortPlace(ring.place));
  return parts.join(", ");
}

/** Return the verdict on a mark, and whether it is saved, as text. */
function savedWords(viewer, ring, verdict) {
  if (!DECIDED.includes(ring.group)) return "";
  if (viewer.decisions.pending(ring.id)) return `${VERDICT_WORDS[verdict]}, saving ...`;
  if (ring.unsaved) return "NOT saved: see the top of the page";
  return ring.saved ? `${VERDICT_WORDS[verdict]}, ${ring.saved}` : VERDICT_WORDS[verdict];
}
