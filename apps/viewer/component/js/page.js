// The buttons of the page around the slices that have a key, and the question that the page asks.

const HOLD_MS = 1500;

const BUTTONS = {
  previous: ".st-key-go_b button",
  next: ".st-key-go_f button",
  unread: ".st-key-go_s button",
  worklist: ".st-key-go_w button",
  finish: "[class*='st-key-reviewed-'] button, [class*='st-key-first_read-'] button",
  yes: "[class*='st-key-anyway-'] button",
  no: "[class*='st-key-keep-'] button",
};

const ANSWERS = { y: "yes", n: "no", Escape: "no" };

/** Presses the page's buttons when the reader presses their keys in the slice viewer. */
export class PageButtons {
  constructor(viewer) {
    this.viewer = viewer;
    this.wanted = null;
    this.heldUntil = 0;
  }

  /** Press a button, once everything is saved that the reader did before. */
  press(name) {
    if (this.viewer.lost) return this.viewer.bars.say("Nothing is being saved.");
    this.wanted = name;
    this.heldUntil = Date.now() + HOLD_MS;
    return this.proceed();
  }

  /** Press the wanted button if nothing is on its way to Python any more. */
  proceed() {
    if (!this.wanted || this.viewer.decisions.waiting.length) return;
    const button = document.querySelector(BUTTONS[this.wanted]);
    this.wanted = null;
    if (button && !button.disabled) {
      this.viewer.holdReport();
      this.heldUntil = Date.now() + HOLD_MS;
      return void button.click();
    }
    this.heldUntil = 0;
    this.viewer.bars.say("There is none here.");
  }

  /** Note that Python has answered: keys belong to the slices again. */
  answered() {
    if (!this.wanted) this.heldUntil = 0;
    this.proceed();
  }

  /** Whether a button was pressed and the page has not reacted yet. */
  get busy() {
    return Date.now() < this.heldUntil;
  }

  /**
   * Return whether a key belongs to the page and not to the slices: it answers the page's question,
   * or comes before the page has reacted to a button.
   */
  takes(key) {
    if (this.busy) return true;
    this.wanted = null; // it was not saved in time, and the reader goes on
    const answer = this.viewer.scene?.question ? ANSWERS[key] : undefined;
    if (answer) this.press(answer);
    return answer !== undefined;
  }
}
