// The voxels of one scan in the browser: loaded once, slab by slab, nearest to the reader first.

const AIR_HU = -1024;
const LOADS_AT_ONCE = 3;
export const RETRY_MS = 1500;
export const MOST_REFUSALS = 6;

/** Return slab numbers in the order of loading: the one with the wanted slice, then outwards. */
export function loadOrder(slabs, wanted) {
  const order = Array.from({ length: slabs }, (_, slab) => slab);
  return order.sort((one, other) => Math.abs(one - wanted) - Math.abs(other - wanted));
}

export class Volume {
  /** `facts` are `scene.describe_stack`; `onChange` is called after each slab and refusal. */
  constructor(facts, onChange) {
    this.facts = facts;
    this.shape = facts.shape;
    this.onChange = onChange;
    this.sliceVoxels = facts.shape[0] * facts.shape[1];
    this.slabs = Math.ceil(facts.shape[2] / facts.slab);
    this.loaded = new Uint8Array(this.slabs);
    this.count = 0;
    this.refusals = 0;
    this.fault = "";
    this.abort = new AbortController();
    this.values = new Int16Array(this.sliceVoxels * facts.shape[2]).fill(AIR_HU);
  }

  get complete() {
    return this.count === this.slabs;
  }

  holds(slice) {
    return this.loaded[Math.floor(slice / this.facts.slab)] === 1;
  }

  /** Load all slabs; a slab that does not arrive is tried again, until refusals repeat. */
  async load(slice) {
    const waiting = loadOrder(this.slabs, Math.floor(slice / this.facts.slab));
    const work = async () => {
      while (waiting.length && !this.fault && !this.abort.signal.aborted) {
        const slab = waiting.shift();
        if (!(await this.loadSlab(slab))) {
          waiting.unshift(slab);
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        }
      }
    };
    await Promise.all(Array.from({ length: LOADS_AT_ONCE }, work));
  }

  async loadSlab(slab) {
    let content;
    try {
      const address = `${this.facts.path}/${this.facts.id}/${slab}`;
      const answer = await fetch(address, {
        signal: this.abort.signal,
        credentials: "same-origin",
        cache: "no-store",
      });
      if (!answer.ok) return this.refused();
      content = await answer.arrayBuffer();
    } catch {
      return this.abort.signal.aborted;
    }
    return this.keep(slab, content);
  }

  /** Note a refusal: for a moment it can be due to a lost connection of the page. */
  refused() {
    this.refusals += 1;
    if (this.refusals < MOST_REFUSALS) return false;
    this.fault = "This page may not load the scan any more: reload the page.";
    this.onChange();
    return true;
  }

  keep(slab, content) {
    const first = slab * this.facts.slab;
    const slices = Math.min(this.facts.slab, this.shape[2] - first);
    if (content.byteLength !== slices * this.sliceVoxels * 2) {
      this.fault = "The scan was not loaded completely: reload the page.";
    } else {
      this.values.set(new Int16Array(content), first * this.sliceVoxels);
      this.loaded[slab] = 1;
      this.count += 1;
    }
    this.onChange();
    return true;
  }

  stop() {
    this.abort.abort();
  }
}
