// The reader's actions on their way to Python: verdicts, added nodules, corrections, undo.
//
// Single events are lost when they are close together. Therefore the component sends the whole list
// of actions that Python has not answered yet, each with a sequence number; the last list wins.

const SILENT_MS = 8000;
const REPEAT_MS = 4000;

/** The groups of rings on which a reader decides. */
export const DECIDED = ["mark", "added", "whole"];

/** What is said about a ring on which nothing can be decided any more. */
export const LOCKED = "Locked: it belongs to your first read.";

/** Return the id of a nodule that the reader is about to add; no two are equal. */
export function newMarkId() {
  const bytes = Array.from(crypto.getRandomValues(new Uint8Array(8)));
  return `added_${bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

export class Decisions {
  /** `send` passes a list to Python. */
  constructor(send) {
    this.send = send;
    this.client = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.last = 0;
    this.waiting = [];
    this.repeated = 0;
  }

  /** Send an action; `index` is a place in voxels, for the screen alone. */
  act(action) {
    this.last += 1;
    this.waiting.push({ number: this.last, ...action, sent: Date.now() });
    this.sendAll();
  }

  decide(mark, verdict) {
    this.act({ kind: "verdict", mark, verdict });
  }

  /** Add a nodule at an index, which is `center` in LPS mm; returns its id. */
  add(index, center, diameter) {
    const mark = newMarkId();
    this.act({ kind: "add", mark, index, center, diameter });
    return mark;
  }

  move(mark, index, center) {
    this.act({ kind: "place", mark, index, center });
  }

  resize(mark, diameter) {
    this.act({ kind: "diameter", mark, diameter });
  }

  /**
   * Take back the latest action that was not taken back; returns the id of its mark, or null.
   *
   * `undoable` are the rows of the store that can be taken back, oldest first.
   */
  undo(undoable) {
    const open = this.live().at(-1);
    const asked = new Set(this.waiting.map(({ row }) => row));
    const last = open ?? undoable.findLast(({ row }) => !asked.has(row));
    if (!last) return null;
    const { mark } = last;
    this.act(open ? { kind: "undo", mark, undone: open.number } : { kind: "undo", mark, row: last.row });
    return mark;
  }

  /** Send again what has waited for long; Python ignores what it has already processed. */
  repeat() {
    const now = Date.now();
    if (!this.waiting.some(({ sent }) => now - sent > REPEAT_MS)) return;
    if (now - this.repeated < REPEAT_MS) return;
    this.repeated = now;
    this.sendAll();
  }

  sendAll() {
    const list = this.waiting.map(({ sent, index, ...action }) => action);
    this.send({ client: this.client, list });
  }

  /** Note the last number that Python has processed, and the rows that the actions wrote. */
  answer(answered) {
    if (!answered || answered.client !== this.client) return;
    this.waiting = this.waiting.filter(({ number }) => number > answered.number);
    // What a waiting undo takes back may be a row by now, which must not be taken back twice.
    for (const action of this.waiting) {
      if (action.undone) action.row = answered.rows[action.undone] || action.row;
    }
  }

  /** Return the waiting actions that were not taken back, without the undos. */
  live() {
    const undone = new Set(this.waiting.map((action) => action.undone));
    return this.waiting.filter(({ kind, number }) => kind !== "undo" && !undone.has(number));
  }

  /** Return the rings as they will be when the waiting actions are saved. */
  applyTo(rings) {
    if (!this.waiting.length) return rings;
    const changed = new Map(rings.map((ring) => [ring.id, { ...ring }]));
    for (const { kind, mark, verdict, index, diameter } of this.live()) {
      if (kind === "add") changed.set(mark, addedRing(mark, index, diameter));
      const ring = changed.get(mark);
      if (!ring) continue;
      if (kind === "verdict") ring.verdict = verdict;
      if (kind === "place") Object.assign(ring, { center: index, place: "" });
      if (kind === "diameter") Object.assign(ring, { diameter, assumed: false });
    }
    return [...changed.values()].filter(({ group, verdict }) => group !== "added" || verdict === "added");
  }

  /** Return whether an action on a mark is on its way. */
  pending(mark) {
    return this.waiting.some((action) => action.mark === mark);
  }

  /** Return whether an action has waited too long for an answer. */
  isOverdue() {
    return this.waiting.some(({ sent }) => Date.now() - sent > SILENT_MS);
  }
}

/** Return the ring of a nodule that was added and has no number yet. */
export function addedRing(id, center, diameter) {
  const words = { score: null, outcome: "", verdict: "added", saved: "", unsaved: false, place: "" };
  return { id, group: "added", number: 0, center, diameter, assumed: false, ...words };
}
