// The keys of the viewer; the help card is made from the same table.

export const KEYS = [
  { keys: ["ArrowDown", "ArrowRight"], shown: "↓", words: "next slice", run: (v) => v.scroll(1) },
  { keys: ["ArrowUp", "ArrowLeft"], shown: "↑", words: "previous slice", run: (v) => v.scroll(-1) },
  { keys: ["PageDown"], shown: "Page ↓", words: "10 slices on", run: (v) => v.scroll(10) },
  { keys: ["PageUp"], shown: "Page ↑", words: "10 slices back", run: (v) => v.scroll(-10) },
  { keys: ["Home"], shown: "Home", words: "first slice", run: (v) => v.scroll(-1e6) },
  { keys: ["End"], shown: "End", words: "last slice", run: (v) => v.scroll(1e6) },
  { keys: ["1", "2", "3", "4", "5"], shown: "1 to 5", words: "window presets", run: (v, key) => v.choosePreset(Number(key) - 1) },
  { keys: ["i"], shown: "i", words: "invert the greys", run: (v) => v.invert() },
  { keys: ["0"], shown: "0", words: "reset zoom, position and window", run: (v) => v.reset() },
  { keys: ["Escape"], shown: "Esc", words: "leave the tool, close the help, or reset", run: (v) => v.escape() },
  { keys: ["v"], shown: "v", words: "one plane or three planes", run: (v) => v.toggleLayout() },
  { keys: ["m"], shown: "m", words: "single slice, maximum (MIP) or mean", run: (v) => v.nextSlabMode() },
  { keys: ["+", "="], shown: "+", words: "thicker slab", run: (v) => v.thicken(1) },
  { keys: ["-"], shown: "−", words: "thinner slab", run: (v) => v.thicken(-1) },
  { keys: ["l"], shown: "l", words: "ruler on or off", run: (v) => v.toggleRuler() },
  { keys: ["d"], shown: "d", words: "measure long and short axis", run: (v) => v.toggleDiameter() },
  { keys: ["D"], shown: "D", words: "take their mean as the mark's diameter", run: (v) => v.diameter.take() },
  { keys: ["Backspace", "Delete"], shown: "Backspace", words: "remove the last measurement", run: (v) => v.removeRuler() },
  { keys: ["h"], shown: "h", words: "hide or show the marks", run: (v) => v.toggleMarks() },
  { keys: ["g"], shown: "g", words: "show or hide the reference standard", run: (v) => v.toggleReference() },
  { keys: ["j"], shown: "j", words: "another scan of the patient beside this one", run: (v) => v.prior.toggle() },
  { keys: ["k"], shown: "k", words: "unlink or link the two scans: unlinked, each scrolls alone", run: (v) => v.prior.toggleLink() },
  { keys: ["O"], shown: "O", words: "show or hide the other arms' marks", run: (v) => v.toggleOthers() },
  { keys: ["c"], shown: "c", words: "copy place and diameter for the PACS", run: (v) => v.copy() },
  { keys: ["o"], shown: "o", words: "show or hide the heat map of the model", run: (v) => v.heat.toggle() },
  { keys: ["t"], shown: "t", words: "next heat map: student, teacher, label", run: (v) => v.heat.next() },
  { keys: [","], shown: ",", words: "heat map fainter", run: (v) => v.heat.fade(-1) },
  { keys: ["."], shown: ".", words: "heat map stronger", run: (v) => v.heat.fade(1) },
  { keys: ["n"], shown: "n", words: "next mark", run: (v) => v.step(1) },
  { keys: ["p"], shown: "p", words: "previous mark", run: (v) => v.step(-1) },
  { keys: ["y"], shown: "y", words: "accept the mark", run: (v) => v.decide("accept") },
  { keys: ["x"], shown: "x", words: "reject the mark, withdraw an added nodule", run: (v) => v.decide("reject") },
  { keys: ["a"], shown: "a", words: "add a nodule, or correct the chosen ring", run: (v) => v.toggleAdding() },
  { keys: ["u"], shown: "u", words: "undo the last decision", run: (v) => v.undo() },
  { keys: ["e"], shown: "e", words: "the case is reviewed: next unread case", run: (v) => v.finish() },
  { keys: ["s"], shown: "s", words: "next unread case, without a decision", run: (v) => v.page.press("unread") },
  { keys: ["f"], shown: "f", words: "next case (forward)", run: (v) => v.page.press("next") },
  { keys: ["b"], shown: "b", words: "previous case (back)", run: (v) => v.page.press("previous") },
  { keys: ["w"], shown: "w", words: "worklist", run: (v) => v.page.press("worklist") },
  { keys: ["?"], shown: "?", words: "this help", run: (v) => v.toggleHelp() },
];

/** Keys that open another case: one press goes to one case, also if the key is held down. */
export const GOING = ["e", "s", "f", "b", "w"];

const MOUSE = [
  ["Wheel", "scroll"],
  ["Ctrl + wheel", "zoom"],
  ["Left drag", "window: right is wider, down is darker"],
  ["Right drag", "move the picture"],
  ["Click", "set the crosshair, or choose a mark"],
  ["Diameter: drag", "the long axis; then drag the short axis, or click its end"],
  ["Add: drag", "from the middle of a nodule to its edge; or click both"],
  ["Add: drag a ring", "its middle moves it, its edge changes the diameter"],
];

/** Run the action of a key; returns whether there is one. */
export function runKey(viewer, key) {
  const found = KEYS.find((entry) => entry.keys.includes(key));
  if (found) found.run(viewer, key);
  return found !== undefined;
}

/** Fill the help card. */
export function fillHelp(list) {
  const rows = [...KEYS.map((entry) => [entry.shown, entry.words]), ...MOUSE];
  list.replaceChildren(
    ...rows.flatMap(([shown, words]) => {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = shown;
      text.textContent = words;
      return [term, text];
    }),
  );
}
