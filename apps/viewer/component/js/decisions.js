// The reader's decisions on their way to Python.
//
// Single events are lost when they are close together. Therefore the component sends the whole list
// of decisions that Python has not answered yet, each with a sequence number; the last list wins.

const SILENT_MS = 8000;
const REPEAT_MS = 4000;

export class Decisions {
  /** `send` passes a list to Python. */
  constructor(send) {
    this.send = send;
    this.client = crypto.getRandomValues(new Uint32Array(2)).join("-");
    this.last = 0;
    this.waiting = [];
    this.repeated = 0;
    this.done = [];
  }

  /** Decide on a mark; `before` is its verdict until now. */
  decide(mark, verdict, before, isUndo = false) {
    this.last += 1;
    this.waiting.push({ number: this.last, mark, verdict, sent: Date.now() });
    if (!isUndo) this.done.push({ mark, before });
    this.sendAll();
  }

  /** Undo the last decision of this visit; returns the id of its mark, or null. */
  undo(current) {
    const last = this.done.pop();
    if (!last) return null;
    this.decide(last.mark, last.before, current(last.mark), true);
    return last.mark;
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
    const list = this.waiting.map(({ number, mark, verdict }) => ({ number, mark, verdict }));
    this.send({ client: this.client, list });
  }

  /** Note the last number that Python has processed. */
  answer(answered) {
    if (!answered || answered.client !== this.client) return;
    this.waiting = this.waiting.filter(({ number }) => number > answered.number);
  }

  /** Return the verdict that is on its way for a mark, or undefined. */
  pending(mark) {
    return this.waiting.findLast((decision) => decision.mark === mark)?.verdict;
  }

  /** Return whether a decision has waited too long for an answer. */
  isOverdue() {
    return this.waiting.some(({ sent }) => Date.now() - sent > SILENT_MS);
  }
}
