// The window, the planes and the place in the address of the page, so that they survive a reload.
//
// The browser writes them, without running the page again, and leaves all other parameters as they
// are. A place names the volume by the beginning of its hash: it holds for no other one.

const DELAY_MS = 300;
const KEEP_MS = 1000;
const ID_LETTERS = 8;

const inAddress = (globalThis.medkdAddress ??= { asked: null, own: {}, timer: 0, written: 0 });

/** Return what the address asked for when the page was loaded: parameters by name. */
export function askedFor() {
  inAddress.asked ??= Object.fromEntries(new URLSearchParams(location.search));
  return inAddress.asked;
}

/** Return the parameter of the grey values: scans and radiographs have different ones. */
export function windowName(picture) {
  return picture ? "contrast" : "window";
}

/** Read a window: the name of a preset, or level and width; null if it is neither. */
export function readWindow(text, presets) {
  const preset = presets.find(({ name }) => name === text);
  if (preset) return { ...preset };
  const [center, width] = (text ?? "").split("_").map(Number);
  return Number.isFinite(center) && width >= 1 ? { center, width } : null;
}

export function writeWindow({ center, width }, presets) {
  const preset = presets.find((one) => one.center === center && one.width === width);
  return preset?.name ?? `${Math.round(center)}_${Math.round(width)}`;
}

/** Read a place in a volume, an index; null if it is none, or one in another volume. */
export function readPlace(text, { id, shape }) {
  const [volume, ...numbers] = (text ?? "").split(".");
  const index = numbers.map((number) => Number(number) - 1);
  if (volume !== id.slice(0, ID_LETTERS) || index.length !== 3) return null;
  const inside = index.every((value, axis) => Number.isInteger(value) && value >= 0 && value < shape[axis]);
  return inside ? index : null;
}

export function writePlace(index, { id }) {
  return [id.slice(0, ID_LETTERS), ...index.map((value) => Math.round(value) + 1)].join(".");
}

/**
 * Keep parameters in the address from now on; null removes one, undefined leaves it as it is.
 *
 * They are written at once, so that they survive a reload right afterwards, but while they change
 * all the time only every DELAY_MS: browsers limit how often an address changes.
 */
export function keepInAddress(own) {
  const known = Object.entries(own).filter(([, value]) => value !== undefined);
  if (inAddress.timer && known.every(([name, value]) => inAddress.own[name] === value)) return;
  Object.assign(inAddress.own, Object.fromEntries(known));
  clearTimeout(inAddress.timer);
  const since = Date.now() - inAddress.written;
  inAddress.timer = setTimeout(writeAddress, Math.max(DELAY_MS - since, 0));
}

/** Write the parameters, and again whenever the page has written its own without them. */
function writeAddress() {
  const parameters = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(inAddress.own)) {
    if (value === null) parameters.delete(name);
    else parameters.set(name, value);
  }
  const query = parameters.size ? `?${parameters}` : "";
  if (query !== location.search) {
    history.replaceState(history.state, "", location.pathname + query + location.hash);
    inAddress.written = Date.now();
  }
  inAddress.timer = setTimeout(writeAddress, KEEP_MS);
}
