// Where a layer, as applyEdits gives it, lies on the canvas. Points of the canvas are in its pixels, those of a layer run
// from -0.5 to 0.5 along its sides, before it is flipped and turned.

const SEEN = 24;
const boxes = new WeakMap();

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

/** The corners on the canvas of the box around what the layer shows, clockwise from the upper left before it is turned. */
export function corners(layer) {
  const { left, top, right, bottom } = contentBox(layer.pixels);
  return [[left, top], [right, top], [right, bottom], [left, bottom]].map(([u, v]) => toCanvas(layer, u, v));
}

/** Whether x, y of the canvas lies in that box. */
export function inBox(layer, x, y) {
  const { left, top, right, bottom } = contentBox(layer.pixels);
  const [u, v] = toLayer(layer, x, y);
  return u >= left && u < right && v >= top && v < bottom;
}

/** The middle of that box on the canvas: what the user takes for the layer's centre. */
export function centre(layer) {
  const { left, top, right, bottom } = contentBox(layer.pixels);
  return toCanvas(layer, (left + right) / 2, (top + bottom) / 2);
}

function contentBox(pixels) {
  if (!boxes.has(pixels)) boxes.set(pixels, findBox(pixels));
  return boxes.get(pixels);
}

function findBox({ width, height, coverage }) {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (coverage[y * width + x] < SEEN) continue;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
      if (y < top) top = y;
      bottom = y + 1;
    }
  }
  if (!bottom) [left, top, right, bottom] = [0, 0, width, height];
  return { left: left / width - 0.5, top: top / height - 0.5, right: right / width - 0.5, bottom: bottom / height - 0.5 };
}
