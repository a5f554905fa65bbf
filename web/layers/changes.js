// Functions that return edits with one more change. Nothing is changed in place, because the history keeps the old edits.

import { applyEdits, original } from "./edits.js";

/** The number of the first copy. A document has fewer layers than that. */
const FIRST_COPY = 50;
/** How far the server lets a layer be moved, in pixels. */
const FARTHEST = 100 * 16384;
const ABSENT_AS_CAME = ["name", "visible", "opacity", "blend_mode"];

/** Edits with fields of a layer changed. */
export function withFields(edits, document, index, fields) {
  const change = { ...edits.layers[index], ...fields };
  for (const key of ["right", "down"]) if (key in change) change[key] = Math.min(Math.max(change[key], -FARTHEST), FARTHEST);
  const came = original(document, edits, index);
  for (const key of ABSENT_AS_CAME) if (change[key] === came[key]) delete change[key];
  return { ...edits, layers: { ...edits.layers, [index]: change } };
}

/** Edits with a copy of a layer directly above it, and the copy's number: [edits, number]. */
export function withCopy(edits, document, index) {
  let number = FIRST_COPY;
  while (number in edits.copies) number++;
  const layers = applyEdits(document, edits);
  const { locked, ...change } = edits.layers[index] ?? {};
  const name = copyName(layers.find((layer) => layer.index === index).name, layers.map((layer) => layer.name));
  const order = layers.flatMap((layer) => (layer.index === index ? [index, number] : layer.index));
  return [{
    ...edits, order, copies: { ...edits.copies, [number]: edits.copies[index] ?? index },
    layers: { ...edits.layers, [number]: { ...change, name } },
  }, number];
}

function copyName(name, taken) {
  const copy = `${name.replace(/ copy( \d+)?$/, "")} copy`;
  let free = copy;
  for (let number = 2; taken.includes(free); number++) free = `${copy} ${number}`;
  return free;
}

/** Edits with a layer deleted: a copy is removed from them, a layer of the document is marked as deleted. */
export function without(edits, index) {
  if (!(index in edits.copies)) return { ...edits, layers: { ...edits.layers, [index]: { deleted: true } } };
  const { [index]: copy, ...copies } = edits.copies;
  const { [index]: change, ...layers } = edits.layers;
  return { ...edits, order: edits.order?.filter((other) => other !== index), copies, layers };
}

/** The part of edits made for other layers that can be applied to these. */
export function fitted(edits, document) {
  const isThere = (index) => original(document, edits, index) !== undefined;
  const fit = (entries) => Object.fromEntries(Object.entries(entries).filter(([index]) => isThere(index)));
  const result = { ...edits, order: edits.order?.filter(isThere), copies: fit(edits.copies), layers: fit(edits.layers) };
  if (applyEdits(document, result).length) return result;
  // These edits would delete every layer that is there.
  const kept = Object.entries(result.layers).map(([index, { deleted, ...change }]) => [index, change]);
  return { ...result, layers: Object.fromEntries(kept) };
}
