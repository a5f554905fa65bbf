// The geometry of layers as returned by applyEdits. Canvas points are in canvas pixels. Layer points run from -0.5 to 0.5
// along the layer's sides, before it is flipped and rotated.

import { contentBox } from "./content.js";

const SEEN = 24;

/** The canvas point [x, y] of the layer point u, v. */
export function toCanvas(layer, u, v) {
  const [cos, sin] = [Math.cos(layer.rotation), Math.sin(layer.rotation)];
  const across = u * layer.w * (layer.flip_h ? -1 : 1);
  const down = v * layer.h * (layer.flip_v ? -1 : 1);
  return [layer.x + layer.w / 2 + across * cos - down * sin, layer.y + layer.h / 2 + across * sin + down * cos];
}

/** The layer point [u, v] at the canvas point x, y. */
export function toLayer(layer, x, y) {
  const [cos, sin] = [Math.cos(layer.rotation), Math.sin(layer.rotation)];
  const [across, down] = [x - layer.x - layer.w / 2, y - layer.y - layer.h / 2];
  return [
    ((across * cos + down * sin) / layer.w) * (layer.flip_h ? -1 : 1),
    ((down * cos - across * sin) / layer.h) * (layer.flip_v ? -1 : 1),
  ];
}

/** Whether the layer is visible at the canvas point x, y. */
export function covers(layer, x, y) {
  const { width, height, coverage } = layer.pixels;
  const [u, v] = toLayer(layer, x, y);
  if (Math.abs(u) >= 0.5 || Math.abs(v) >= 0.5) return false;
  return coverage[Math.floor((v + 0.5) * height) * width + Math.floor((u + 0.5) * width)] >= SEEN;
}

/** The corners of the layer's content box as layer points, clockwise from the upper left before rotation. */
export function corners(layer) {
  const { left, top, right, bottom } = seenBox(layer.pixels);
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

/** The left and top edge of the content box on the canvas: [x, y]. */
export function leftTop(layer) {
  const points = corners(layer).map(([u, v]) => toCanvas(layer, u, v));
  return [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
}

/** Whether the canvas point x, y lies in the content box. */
export function inBox(layer, x, y) {
  const { left, top, right, bottom } = seenBox(layer.pixels);
  const [u, v] = toLayer(layer, x, y);
  return u >= left && u < right && v >= top && v < bottom;
}

/** The layer for a canvas `factor` times as large, rounded to whole pixels. */
export function resized(layer, factor) {
  const length = (side) => Math.max(1, Math.round(side * factor));
  const [x, y] = [Math.round(layer.x * factor), Math.round(layer.y * factor)];
  return { ...layer, x, y, w: length(layer.w), h: length(layer.h) };
}

/** The layer point in the middle of the content box, which the user sees as the layer's centre. */
export function middle(layer) {
  const { left, top, right, bottom } = seenBox(layer.pixels);
  return [(left + right) / 2, (top + bottom) / 2];
}

/** The box around the visible pixels of the layer, or around all of them if none is visible: -0.5 to 0.5. */
function seenBox(pixels) {
  const { width, height } = pixels;
  const found = contentBox(pixels, SEEN);
  const { left, top, right, bottom } = found.bottom ? found : { left: 0, top: 0, right: width, bottom: height };
  return { left: left / width - 0.5, top: top / height - 0.5, right: right / width - 0.5, bottom: bottom / height - 0.5 };
}
