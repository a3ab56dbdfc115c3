// A ring that the reader has begun and that is not saved yet.

/** What the tools that add and correct rings have in common, by mouse and by keyboard. */
export class Draft {
  constructor(viewer) {
    this.viewer = viewer;
    this.draft = null;
  }

  /** Forget the begun ring; returns whether there was one. */
  cancel() {
    const begun = this.draft !== null;
    this.draft = null;
    return begun;
  }

  /** Return the rings with the begun one. */
  applyTo(rings) {
    if (!this.draft) return rings;
    const { ring } = this.draft;
    return [...rings.filter(({ id }) => id !== ring.id), ring];
  }
}
