// What outlives the component: when a page is left and opened again, it is mounted anew.

const memory = (globalThis.medkdViewer ??= {
  volumes: [],
  places: new Map(),
  mounted: null,
  tastes: {},
});

const MOST_PLACES = 50;

/** Note that a viewer was mounted: it is the one that decides how high the page's columns are. */
export function noteMounted(root) {
  memory.mounted = root;
}

/** Return whether no other viewer was mounted after this one. */
export function isLastMounted(root) {
  return memory.mounted === root;
}

/** The reader's settings, which hold for all scans ("scan") or all radiographs ("picture"). */
export function taste(kind) {
  memory.tastes[kind] ??= { window: null, inverted: false, layout: null, hidden: false };
  memory.tastes[kind].heat ??= { shown: false, opacity: 0.6, title: "" };
  return memory.tastes[kind];
}

/** Return the kept place in a volume, or undefined. */
export function keptPlace(id) {
  return memory.places.get(id);
}

export function keepPlace(id, place) {
  memory.places.delete(id);
  memory.places.set(id, place);
  if (memory.places.size > MOST_PLACES) memory.places.delete(memory.places.keys().next().value);
}

/** Return the loaded volume of this id, or null. */
export function keptVolume(id) {
  return memory.volumes.find(({ facts }) => facts.id === id) ?? null;
}

/** Keep these volumes and no other, because one can be 150 MB. */
export function keepVolumes(volumes) {
  for (const old of memory.volumes) if (!volumes.includes(old)) old.stop();
  memory.volumes = volumes;
}
