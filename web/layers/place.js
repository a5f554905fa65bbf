// Places a layer on the canvas by its x, y, w, h, rotation and flips. The counterpart of place in layers.py in the page.

import { contentBox } from "./content.js";

/** The least coverage that counts as content, out of 255. Downscaled coverage is fractional. */
const ANY = Number.MIN_VALUE;
const reductions = new WeakMap();
const placements = new WeakMap();

/**
 * The non-empty part of a layer within a canvas of [width, height]; null if there is none.
 * Returns {left, top, right, bottom, rgb, coverage, start, stride}: colours, not premultiplied, and coverage, both 0..255. The
 * index of the canvas pixel (x, y) is start + (y - top) * stride + x - left. The last placement of each layer is cached.
 */
export function place(layer, canvas) {
  const { pixels, x, y, w, h, rotation, flip_h, flip_v } = layer;
  const key = [x, y, w, h, rotation, flip_h, flip_v, ...canvas].join();
  // A copy shares its original's pixels.
  if (!placements.has(pixels)) placements.set(pixels, new Map());
  const known = placements.get(pixels);
  let last = known.get(layer.index);
  if (last?.key !== key) {
    const same = w === pixels.width && h === pixels.height && !(rotation || flip_h || flip_v);
    last = { key, placed: same ? moved(layer, canvas) : resampled(layer, canvas) };
    known.set(layer.index, last);
  }
  return last.placed;
}

function moved({ pixels, x, y }, canvas) {
  const box = contentBox(pixels, ANY);
  const clipped = clip({ left: x + box.left, top: y + box.top, right: x + box.right, bottom: y + box.bottom }, canvas);
  const { width, rgb, coverage } = pixels;
  return clipped && { ...clipped, rgb, coverage, stride: width, start: (clipped.top - y) * width + clipped.left - x };
}

function clip({ left, top, right, bottom }, [width, height]) {
  const box = {
    left: Math.max(left, 0), top: Math.max(top, 0), right: Math.min(right, width), bottom: Math.min(bottom, height),
  };
  return box.left < box.right && box.top < box.bottom ? box : null;
}

/** Bilinear sampling. Colours are weighted by coverage, so hidden ones never show; edges of rotated layers are antialiased. */
function resampled(layer, canvas) {
  const { x, y, w, h, flip_h, flip_v } = layer;
  const source = reduced(layer, Math.min(w, layer.pixels.width), Math.min(h, layer.pixels.height));
  const cos = Math.cos(layer.rotation);
  const sin = Math.sin(layer.rotation);
  const box = clip(turnedBox(layer, source, cos, sin), canvas);
  if (!box) return null;
  const stride = box.right - box.left;
  const coverage = new Float32Array(stride * (box.bottom - box.top));
  const rgb = new Float32Array(3 * coverage.length);
  const { width, height } = source;
  const across = ((flip_h ? -1 : 1) * width) / w;
  const along = ((flip_v ? -1 : 1) * height) / h;
  let pixel = 0;
  for (let row = box.top; row < box.bottom; row++) {
    const down = row + 0.5 - y - h / 2;
    for (let column = box.left; column < box.right; column++, pixel++) {
      // The position in the layer: u, v from its centre along its sides, in canvas pixels.
      const right = column + 0.5 - x - w / 2;
      const u = right * cos + down * sin;
      const v = down * cos - right * sin;
      const border = unit(w / 2 - Math.abs(u) + 0.5) * unit(h / 2 - Math.abs(v) + 0.5);
      if (border === 0) continue;
      const sx = Math.min(Math.max(u * across + width / 2 - 0.5, 0), width - 1);
      const sy = Math.min(Math.max(v * along + height / 2 - 0.5, 0), height - 1);
      const x0 = Math.floor(sx);
      const y0 = Math.floor(sy);
      const fx = sx - x0;
      const fy = sy - y0;
      const a = y0 * width + x0;
      const b = fx > 0 ? a + 1 : a;
      const c = fy > 0 ? a + width : a;
      const d = c + b - a;
      const wa = (1 - fx) * (1 - fy) * source.coverage[a];
      const wb = fx * (1 - fy) * source.coverage[b];
      const wc = (1 - fx) * fy * source.coverage[c];
      const wd = fx * fy * source.coverage[d];
      const sum = wa + wb + wc + wd;
      if (sum === 0) continue;
      coverage[pixel] = sum * border;
      for (let channel = 0; channel < 3; channel++) {
        rgb[3 * pixel + channel] = (wa * source.rgb[3 * a + channel] + wb * source.rgb[3 * b + channel]
          + wc * source.rgb[3 * c + channel] + wd * source.rgb[3 * d + channel]) / sum;
      }
    }
  }
  return { ...box, rgb, coverage, stride, start: 0 };
}

const unit = (value) => Math.min(Math.max(value, 0), 1);

/** The canvas pixels that the content of a rotated and scaled layer can touch; right and bottom are exclusive. */
function turnedBox(layer, source, cos, sin) {
  const box = contentBox(source, ANY);
  const across = span(box.left, box.right, source.width, layer.w, layer.flip_h);
  const along = span(box.top, box.bottom, source.height, layer.h, layer.flip_v);
  const corners = across.flatMap((u) => along.map((v) => [u * cos - v * sin, u * sin + v * cos]));
  const xs = corners.map(([right]) => layer.x + layer.w / 2 + right);
  const ys = corners.map(([, down]) => layer.y + layer.h / 2 + down);
  return {
    left: Math.floor(Math.min(...xs)), top: Math.floor(Math.min(...ys)),
    right: Math.ceil(Math.max(...xs)), bottom: Math.ceil(Math.max(...ys)),
  };
}

/** Where a texel range ends on a side of `length` pixels with `count` texels, from its middle, plus the bilinear margin. */
function span(first, end, count, length, flipped) {
  const middle = count / 2;
  const low = Math.max(((first - 1 - middle) * length) / count, -length / 2 - 0.5);
  const high = Math.min(((end + 1 - middle) * length) / count, length / 2 + 0.5);
  return flipped ? [-high, -low] : [low, high];
}

/** A layer's pixels, downscaled as by PyTorch's antialiased bilinear interpolation. The latest are cached. */
function reduced({ pixels, index }, width, height) {
  if (width === pixels.width && height === pixels.height) return pixels;
  if (!reductions.has(pixels)) reductions.set(pixels, new Map());
  const known = reductions.get(pixels);
  const last = known.get(index);
  if (last?.width === width && last.height === height) return last;
  // Interleaved: red, green and blue times coverage, then coverage.
  let planes = new Float32Array(4 * pixels.coverage.length);
  for (let pixel = 0; pixel < pixels.coverage.length; pixel++) {
    const weight = pixels.coverage[pixel];
    for (let channel = 0; channel < 3; channel++) planes[4 * pixel + channel] = pixels.rgb[3 * pixel + channel] * weight;
    planes[4 * pixel + 3] = weight;
  }
  // Along rows the step is one pixel, along columns it is one row.
  planes = shrink(planes, pixels.width, width, pixels.height, 4, 4 * pixels.width, 4 * width);
  planes = shrink(planes, pixels.height, height, width, 4 * width, 4, 4);
  const result = { width, height, rgb: new Float32Array(3 * width * height), coverage: new Float32Array(width * height) };
  for (let pixel = 0; pixel < width * height; pixel++) {
    const weight = planes[4 * pixel + 3];
    result.coverage[pixel] = weight;
    if (weight === 0) continue;
    for (let channel = 0; channel < 3; channel++) result.rgb[3 * pixel + channel] = planes[4 * pixel + channel] / weight;
  }
  known.set(index, result);
  return result;
}

/**
 * One of the two passes: shrinks `lines` lines from `from` to `to` texels, which are `step` apart. lineFrom, lineTo: the
 * distance between lines in the source and in the result.
 */
function shrink(planes, from, to, lines, step, lineFrom, lineTo) {
  if (from === to) return planes;
  const scale = from / to;
  const result = new Float32Array((planes.length / from) * to);
  for (let target = 0; target < to; target++) {
    const centre = scale * (target + 0.5);
    const first = Math.max(Math.trunc(centre - scale + 0.5), 0);
    const end = Math.min(Math.trunc(centre + scale + 0.5), from);
    const weights = [];
    for (let texel = first; texel < end; texel++) weights.push(Math.max(0, 1 - Math.abs((texel - centre + 0.5) / scale)));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    for (let line = 0; line < lines; line++) {
      const out = line * lineTo + target * step;
      for (let number = 0; number < weights.length; number++) {
        const weight = weights[number] / sum;
        const at = line * lineFrom + (first + number) * step;
        for (let channel = 0; channel < 4; channel++) result[out + channel] += planes[at + channel] * weight;
      }
    }
  }
  return result;
}
