// The layer panel's edits: as text in the node's widget, and applied to the layers. The counterpart of edits.py in the page.

/** The values of a layer's edits that change nothing. Unchanged name, visible, opacity and blend_mode are absent. */
const NEUTRAL = { right: 0, down: 0, scale: 1, rotation: 0, locked: false, deleted: false };

/** Parses a widget's text into edits, which always have `copies` and `layers`. Throws if the text is invalid. */
export function parse(text) {
  if (!text.trim()) return { version: 1, copies: {}, layers: {} };
  const edits = JSON.parse(text);
  if (edits?.version !== 1) throw new Error("The edits must have version 1.");
  // Older panels stored the solo layer.
  const { solo, ...rest } = edits;
  return { ...rest, copies: edits.copies ?? {}, layers: edits.layers ?? {} };
}

/** The widget's text for edits, "" if they change nothing. */
export function serialise(edits) {
  const layers = {};
  for (const [index, change] of Object.entries(edits.layers)) {
    const told = Object.entries(change).filter(([key, value]) => value !== undefined && value !== NEUTRAL[key]);
    if (told.length) layers[index] = Object.fromEntries(told);
  }
  const text = { version: 1, made_for: edits.made_for };
  if (edits.order?.some((original, place) => original !== place)) text.order = edits.order;
  if (Object.keys(edits.copies).length) text.copies = edits.copies;
  if (Object.keys(layers).length) text.layers = layers;
  return text.order || text.copies || text.layers ? JSON.stringify(text) : "";
}

/** The document's layer with this number, or the one that the copy with this number was made from; undefined if none. */
export function original(document, edits, index) {
  return document.layers[edits.copies[index] ?? index];
}

/**
 * The layers of a loaded document with the edits applied, bottom layer first. The document is not modified.
 * Each is a new object with the document's fields and pixels, `index` (its number in the edits) and `locked`.
 */
export function applyEdits(document, edits) {
  const numbers = [...document.layers.keys(), ...Object.keys(edits.copies).map(Number)];
  const there = numbers.filter((index) => original(document, edits, index));
  const order = (edits.order ?? []).filter((index) => there.includes(index));
  order.push(...there.filter((index) => !order.includes(index)));
  return order.filter((index) => !edits.layers[index]?.deleted)
    .map((index) => ({ ...change(original(document, edits, index), edits.layers[index] ?? {}), index }));
}

function change(layer, { right = 0, down = 0, scale = 1, rotation = 0, locked = false, ...set }) {
  const w = Math.max(1, roundHalfEven(layer.w * scale));
  const h = Math.max(1, roundHalfEven(layer.h * scale));
  return {
    ...layer, ...set, locked, w, h,
    x: layer.x + right + Math.floor((layer.w - w) / 2),
    y: layer.y + down + Math.floor((layer.h - h) / 2),
    rotation: layer.rotation + rotation * (Math.PI / 180),
  };
}

/** Rounds like Python, so that the server arrives at the same size. */
function roundHalfEven(number) {
  const down = Math.floor(number);
  const rest = number - down;
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1;
  return down % 2 ? down + 1 : down;
}

/** The layers that appear in the composite. */
export function visibleLayers(layers) {
  return layers.filter((layer) => layer.visible && layer.opacity > 0);
}
