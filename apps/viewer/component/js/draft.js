// What a tool has begun and has not finished or saved yet.

/** A tool of the slices with something begun, `draft`; null if there is nothing. */
export class Draft {
  constructor(viewer) {
    this.viewer = viewer;
    this.draft = null;
  }

  /** Forget what was begun; returns whether there was anything. */
  cancel() {
    const begun = this.draft !== null;
    this.draft = null;
    return begun;
  }
}

/** What the tools that add and correct rings have in common, by mouse and by keyboard. */
export class RingDraft extends Draft {
  /** Return the rings with the begun one. */
  applyTo(rings) {
    if (!this.draft) return rings;
    const { ring } = this.draft;
    return [...rings.filter(({ id }) => id !== ring.id), ring];
  }
}
