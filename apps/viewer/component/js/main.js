// The entry of the component, which Streamlit calls when it is mounted and when its data change.

import { keepInAddress } from "./address.js";
import { Bars } from "./bars.js";
import { watchConnection } from "./connection.js";
import { isLastMounted, noteMounted } from "./memory.js";
import { Viewer } from "./viewer.js";

const LEAST_PX = 360;
const BELOW_PX = 10;
const CHECK_MS = 1000;
const LIST_DRAWN_MS = 200;

export default function show({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".viewer");
  // Streamlit calls this again for new data, without having called what the last call returned.
  if (parentElement.mounted?.root !== root) {
    parentElement.mounted?.stop();
    parentElement.mounted = mount(root);
  }
  const { mounted } = parentElement;
  mounted.viewer.decisions.send = (list) => setStateValue("decisions", list);
  mounted.viewer.sendSelected = (report) => setStateValue("selected", report);
  mounted.viewer.prior.ask = (id) => setStateValue("prior", id);
  mounted.viewer.update(data);
  mounted.fill();
  showChosen(mounted, data.chosen);
  return () => {
    parentElement.mounted?.stop();
    parentElement.mounted = undefined;
  };
}

/** Scroll the list beside the image to the chosen mark, once the page has drawn it. */
function showChosen(mounted, chosen) {
  if (mounted.chosen === chosen) return;
  mounted.chosen = chosen;
  const box = () => document.querySelector(".st-key-chosen_mark");
  setTimeout(() => box()?.scrollIntoView({ block: "nearest" }), LIST_DRAWN_MS);
}

function mount(root) {
  const bars = new Bars(root);
  const viewer = new Viewer(root, bars, { send: () => {}, select: () => {} });
  noteMounted(root);
  bars.connect(viewer);
  viewer.focusUnlessTyping();
  const fill = () => fillScreen(root);
  const stopWatching = watchConnection((lost) => viewer.setLost(lost));
  const timer = setInterval(() => {
    if (!viewer.decisions.waiting.length) return;
    if (!viewer.lost) viewer.decisions.repeat();
    viewer.redraw();
  }, CHECK_MS);
  const observer = new ResizeObserver(fill);
  observer.observe(document.body);
  const page = document.querySelector("[data-testid='stMainBlockContainer']");
  if (page) observer.observe(page);
  const stop = () => {
    stopWatching();
    clearInterval(timer);
    observer.disconnect();
    // The viewer of the next case may be there before this one is removed.
    if (!isLastMounted(root)) return;
    keepInAddress({ at: null });
    document.documentElement.classList.remove("medkd-lost");
    document.documentElement.style.removeProperty("--medkd-reading-height");
  };
  return { root, viewer, fill, stop };
}

/** Make the viewer as high as the rest of the window, and tell the page this height. */
function fillScreen(root) {
  const scrolled = document.querySelector("[data-testid='stMain']")?.scrollTop ?? 0;
  const top = root.getBoundingClientRect().top + scrolled;
  const height = Math.max(Math.floor(window.innerHeight - top - BELOW_PX), LEAST_PX);
  root.style.height = `${height}px`;
  document.documentElement.style.setProperty("--medkd-reading-height", `${height}px`);
}
