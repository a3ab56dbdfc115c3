// The entry of the component, which Streamlit calls when it is mounted and when its data change.

import { Bars } from "./bars.js";
import { watchConnection } from "./connection.js";
import { Viewer } from "./viewer.js";

const LEAST_PX = 360;
const BELOW_PX = 10;
const CHECK_MS = 1000;

export default function show({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".viewer");
  // Streamlit calls this again for new data, without having called what the last call returned.
  if (parentElement.mounted?.root !== root) {
    parentElement.mounted?.stop();
    parentElement.mounted = mount(root, (list) => setStateValue("decisions", list));
  }
  const { mounted } = parentElement;
  mounted.viewer.decisions.send = (list) => setStateValue("decisions", list);
  mounted.viewer.update(data);
  mounted.fill();
  return () => {
    parentElement.mounted?.stop();
    parentElement.mounted = undefined;
  };
}

function mount(root, send) {
  const bars = new Bars(root);
  const viewer = new Viewer(root, bars, send);
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
