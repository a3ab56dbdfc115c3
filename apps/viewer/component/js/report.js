// Words on the chosen mark for a report or a PACS, and their copying to the clipboard.

/** Return the DICOM image of a slice along an axis, such as "image 107"; "" if it is not known. */
export function imageWords(images, axis, number) {
  return images?.axis === axis ? images.words[number] : "";
}

/** Return "slice 214 (image 107)" for a voxel, or that there is none. */
export function sliceWords(images, voxel) {
  if (!voxel) return "outside the scan";
  const image = images ? images.words[voxel[images.axis]] : "";
  return `slice ${voxel[2] + 1}${image ? ` (${image})` : ""}`;
}

/**
 * Return one line on a nodule, without any identifier; `place_words.report_line` is the same in
 * Python. `place` is its lung, or "" if that is not known.
 */
export function reportLine(place, slice, ring) {
  const diameter = ring.assumed ? "" : `${(Math.round(ring.diameter * 10) / 10).toFixed(1)} mm`;
  return [place, slice, diameter].filter(Boolean).join(", ");
}

/** Shorten a place for a bar; `place_words.short_place` is the same in Python. */
export function shortPlace(place) {
  return place.replace(" lung,", "").replace(/ third$/, "").replace("outside the lungs", "outside");
}

/** Copy a text; returns whether the browser did. */
export async function copyText(text) {
  // The clipboard's interface is absent on pages that were not loaded by HTTPS or from this machine.
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyFromField(text);
  }
}

function copyFromField(text) {
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.style.position = "fixed";
  field.style.opacity = "0";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return copied;
}
