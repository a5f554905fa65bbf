// The part of a layer's own pixels that is not empty.

const boxes = new WeakMap();

/** The smallest box around all pixels with at least this coverage (0..255). right and bottom are exclusive, 0 if none has. */
export function contentBox(pixels, least) {
  if (!boxes.has(pixels)) boxes.set(pixels, new Map());
  const known = boxes.get(pixels);
  if (!known.has(least)) known.set(least, findBox(pixels, least));
  return known.get(least);
}

function findBox({ width, height, coverage }, least) {
  const box = { left: width, top: height, right: 0, bottom: 0 };
  for (let row = 0, pixel = 0; row < height; row++) {
    for (let column = 0; column < width; column++, pixel++) {
      if (coverage[pixel] < least) continue;
      if (row < box.top) box.top = row;
      box.bottom = row + 1;
      if (column < box.left) box.left = column;
      if (column >= box.right) box.right = column + 1;
    }
  }
  return box;
}
