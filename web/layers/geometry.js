// Where a layer, as applyEdits gives it, lies on the canvas. Points of the canvas are in its pixels, those of a layer run
// from -0.5 to 0.5 along its sides, before it is flipped and turned.

import { contentBox } from "./content.js";

const SEEN = 24;

/** The point of the canvas that shows the layer's point u, v: [x, y]. */
export function toCanvas(layer, u, v) {
  const [cos, sin] = [Math.cos(layer.rotation), Math.sin(layer.rotation)];
  const across = u * layer.w * (layer.flip_h ? -1 : 1);
  const down = v * layer.h * (layer.flip_v ? -1 : 1);
  return [layer.x + layer.w / 2 + across * cos - down * sin, layer.y + layer.h / 2 + across * sin + down * cos];
}

/** The layer's point that shows at x, y of the canvas: [u, v]. */
export function toLayer(layer, x, y) {
  const [cos, sin] = [Math.cos(layer.rotation), Math.sin(layer.rotation)];
  const [across, down] = [x - layer.x - layer.w / 2, y - layer.y - layer.h / 2];
  return [
    ((across * cos + down * sin) / layer.w) * (layer.flip_h ? -1 : 1),
    ((down * cos - across * sin) / layer.h) * (layer.flip_v ? -1 : 1),
  ];
}

/** Whether something of the layer can be seen at x, y of the canvas. */
export function covers(layer, x, y) {
  const { width, height, coverage } = layer.pixels;
  const [u, v] = toLayer(layer, x, y);
  if (Math.abs(u) >= 0.5 || Math.abs(v) >= 0.5) return false;
  return coverage[Math.floor((v + 0.5) * height) * width + Math.floor((u + 0.5) * width)] >= SEEN;
}

/** The corners, as the layer's points, of the box around what it shows, clockwise from the upper left before it is turned. */
export function corners(layer) {
  const { left, top, right, bottom } = seenBox(layer.pixels);
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

/** How far left and up on the canvas that box goes, as the layer lies there. */
export function leftTop(layer) {
  const points = corners(layer).map(([u, v]) => toCanvas(layer, u, v));
  return [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
}

/** Whether x, y of the canvas lies in that box. */
export function inBox(layer, x, y) {
  const { left, top, right, bottom } = seenBox(layer.pixels);
  const [u, v] = toLayer(layer, x, y);
  return u >= left && u < right && v >= top && v < bottom;
}

/** The layer for a canvas `factor` times as large, on whole pixels. */
export function resized(layer, factor) {
  const length = (side) => Math.max(1, Math.round(side * factor));
  const [x, y] = [Math.round(layer.x * factor), Math.round(layer.y * factor)];
  return { ...layer, x, y, w: length(layer.w), h: length(layer.h) };
}

/** The layer's point in the middle of that box: what the user takes for its centre. */
export function middle(layer) {
  const { left, top, right, bottom } = seenBox(layer.pixels);
  return [(left + right) / 2, (top + bottom) / 2];
}

/** The box around what can be seen of the layer's own pixels, all of them where that is nothing: from -0.5 to 0.5. */
function seenBox(pixels) {
  const { width, height } = pixels;
  const found = contentBox(pixels, SEEN);
  const { left, top, right, bottom } = found.bottom ? found : { left: 0, top: 0, right: width, bottom: height };
  return { left: left / width - 0.5, top: top / height - 0.5, right: right / width - 0.5, bottom: bottom / height - 0.5 };
}
