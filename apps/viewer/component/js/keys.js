// The keys of the viewer; the help card is made from the same table. `scans`: not for radiographs.
// `slices`: only if there is more than one. `measures`: only if the file gives a scale. `heat`: only if
// there is a heat map.

export const KEYS = [
  { slices: true, keys: ["ArrowDown", "ArrowRight"], shown: "↓", words: "next slice", run: (v) => v.scroll(1) },
  { slices: true, keys: ["ArrowUp", "ArrowLeft"], shown: "↑", words: "previous slice", run: (v) => v.scroll(-1) },
  { slices: true, keys: ["PageDown"], shown: "Page ↓", words: "10 slices on", run: (v) => v.scroll(10) },
  { slices: true, keys: ["PageUp"], shown: "Page ↑", words: "10 slices back", run: (v) => v.scroll(-10) },
  { slices: true, keys: ["Home"], shown: "Home", words: "first slice", run: (v) => v.scroll(-1e6) },
  { slices: true, keys: ["End"], shown: "End", words: "last slice", run: (v) => v.scroll(1e6) },
  { keys: ["1", "2", "3", "4", "5"], shown: "1 to 5", words: "window presets", run: (v, key) => v.choosePreset(Number(key) - 1) },
  { keys: ["i"], shown: "i", words: "invert the greys", run: (v) => v.invert() },
  { keys: ["0"], shown: "0", words: "reset zoom, position and window", run: (v) => v.reset() },
  { keys: ["Escape"], shown: "Esc", words: "leave the tool, close the help, or reset", run: (v) => v.escape() },
  { scans: true, keys: ["v"], shown: "v", words: "one plane or three planes", run: (v) => v.toggleLayout() },
  { scans: true, keys: ["m"], shown: "m", words: "single slice, maximum (MIP) or mean", run: (v) => v.nextSlabMode() },
  { scans: true, keys: ["+", "="], shown: "+", words: "thicker slab", run: (v) => v.thicken(1) },
  { scans: true, keys: ["-"], shown: "−", words: "thinner slab", run: (v) => v.thicken(-1) },
  { measures: true, keys: ["l"], shown: "l", words: "ruler on or off", run: (v) => v.toggleRuler() },
  { measures: true, keys: ["d"], shown: "d", words: "measure long and short axis", run: (v) => v.toggleDiameter() },
  { scans: true, measures: true, keys: ["D"], shown: "D", words: "take their mean as the mark's diameter", run: (v) => v.diameter.take() },
  { measures: true, keys: ["Backspace", "Delete"], shown: "Backspace", words: "remove the last measurement", run: (v) => v.removeRuler() },
  { scans: true, keys: ["h"], shown: "h", words: "hide or show the marks", run: (v) => v.toggleMarks() },
  { scans: true, keys: ["g"], shown: "g", words: "show or hide the reference standard", run: (v) => v.toggleReference() },
  { scans: true, keys: ["j"], shown: "j", words: "another scan of the patient beside this one", run: (v) => v.prior.toggle() },
  { scans: true, keys: ["k"], shown: "k", words: "unlink or link the two scans: unlinked, each scrolls alone", run: (v) => v.prior.toggleLink() },
  { scans: true, keys: ["O"], shown: "O", words: "show or hide the other arms' marks", run: (v) => v.toggleOthers() },
  { scans: true, keys: ["c"], shown: "c", words: "copy place and diameter for the PACS", run: (v) => v.copy() },
  { heat: true, keys: ["o"], shown: "o", words: "show or hide the heat map of the model", run: (v) => v.heat.toggle() },
  { heat: true, keys: ["t"], shown: "t", words: "next heat map: student, teacher, label", run: (v) => v.heat.next() },
  { heat: true, keys: [","], shown: ",", words: "heat map fainter", run: (v) => v.heat.fade(-1) },
  { heat: true, keys: ["."], shown: ".", words: "heat map stronger", run: (v) => v.heat.fade(1) },
  { scans: true, keys: ["n"], shown: "n", words: "next mark", run: (v) => v.step(1) },
  { scans: true, keys: ["p"], shown: "p", words: "previous mark", run: (v) => v.step(-1) },
  { keys: ["y"], shown: "y", words: "accept the mark or image", run: (v) => v.decide("accept") },
  { keys: ["x"], shown: "x", words: "reject the mark or image, withdraw an added nodule", run: (v) => v.decide("reject") },
  { scans: true, keys: ["a"], shown: "a", words: "add a nodule, or correct the chosen ring", run: (v) => v.toggleAdding() },
  { scans: true, keys: ["A"], shown: "A", words: "add a nodule at the crosshair by keyboard", run: (v) => v.keyed.add() },
  { scans: true, keys: ["R"], shown: "R", words: "correct the chosen ring by keyboard", run: (v) => v.keyed.correct() },
  { keys: ["u"], shown: "u", words: "undo the last decision", run: (v) => v.undo() },
  { keys: ["e"], shown: "e", words: "finish the case: next unread case; or finish the first read", run: (v) => v.finish() },
  { keys: ["s"], shown: "s", words: "next unread case, without a decision", run: (v) => v.page.press("unread") },
  { keys: ["f"], shown: "f", words: "next case (forward)", run: (v) => v.page.press("next") },
  { keys: ["b"], shown: "b", words: "previous case (back)", run: (v) => v.page.press("previous") },
  { keys: ["w"], shown: "w", words: "worklist", run: (v) => v.page.press("worklist") },
  { keys: ["?"], shown: "?", words: "this help", run: (v) => v.toggleHelp() },
];

/** Keys that open another case: one press goes to one case, also if the key is held down. */
export const GOING = ["e", "s", "f", "b", "w"];

const MOUSE = [
  { slices: true, shown: "Wheel", words: "scroll" },
  { shown: "Ctrl + wheel", words: "zoom" },
  { shown: "Left drag", words: "window: right is wider, down is darker" },
  { shown: "Right drag", words: "move the picture" },
  { scans: true, shown: "Click", words: "set the crosshair, or choose a mark" },
  { measures: true, shown: "Diameter: drag", words: "the long axis; then drag the short axis, or click its end" },
  { scans: true, shown: "Add: drag", words: "from the middle of a nodule to its edge; or click both" },
  { scans: true, shown: "Add: drag a ring", words: "its middle moves it, its edge changes the diameter" },
];

/** Run the action of a key; returns whether there is one. */
export function runKey(viewer, key) {
  if (viewer.keyed.takes(key)) return true;
  const found = KEYS.find((entry) => entry.keys.includes(key));
  if (found) found.run(viewer, key);
  return found !== undefined;
}

/** Fill the help card with what there is for the volume of a scene. */
export function fillHelp(list, { picture, volume, scaled, heat }) {
  const there = {
    scans: !picture,
    slices: volume.shape[2] > 1,
    measures: scaled,
    heat: heat.maps.length > 0,
  };
  const rows = [...KEYS, ...MOUSE].filter((row) => Object.keys(there).every((need) => there[need] || !row[need]));
  list.replaceChildren(
    ...rows.flatMap(({ shown, words }) => {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = shown;
      text.textContent = words;
      return [term, text];
    }),
  );
}
