// Composites the layers into one image. The counterpart of composite.py in the page.

import { MODES, SEPARABLE, WHOLE } from "./blend.js";
import { visibleLayers } from "./edits.js";
import { place } from "./place.js";

export { MODES };

/** Modes that are also computed in linear light when the composite is. */
const LINEAR_MODES = new Set(
  ["normal", "multiply", "darken", "lighten", "luminosity", "linear-dodge", "subtract", "divide"]);

/** Pixels processed at a time, few enough to stay in the processor's cache through all steps. */
const BAND = 1 << 15;

// Tables over 0..1 from sRGB to linear light and back (IEC 61966-2-1). 65535 = 255 * 257, so every byte has an exact entry.
const FINEST = 65535;
const LIGHT = table((colour) => (colour <= 0.04045 ? colour / 12.92 : ((colour + 0.055) / 1.055) ** 2.4));
const DISPLAY = table((light) => (light <= 0.0031308 ? light * 12.92 : 1.055 * light ** (1 / 2.4) - 0.055));

function table(curve) {
  return Float32Array.from({ length: FINEST + 1 }, (_, number) => curve(number / FINEST));
}

const toLight = (colour) => LIGHT[(colour * FINEST + 0.5) | 0];
const toDisplay = (light) => DISPLAY[(light * FINEST + 0.5) | 0];
const unit = (value) => (value < 0 ? 0 : value > 1 ? 1 : value);

/** The last result and the layers it was made of, since most of the next one will be the same. */
let last = null;

/**
 * Composites the visible layers with their opacity and blend mode. layers: as returned by applyEdits, bottom layer first.
 * canvas: [width, height]. linear: blend in linear light instead of sRGB. Returns a new ImageData, not premultiplied and
 * transparent black where there is no layer. Do not write to it: the next call copies the unchanged pixels from it.
 */
export function composite(layers, [width, height], linear) {
  const stack = [];
  for (const layer of visibleLayers(layers)) {
    const placed = place(layer, [width, height]);
    if (placed) stack.push({ placed, opacity: layer.opacity, mode: layer.blend_mode });
  }
  const result = new ImageData(width, height);
  let box = { left: 0, top: 0, right: width, bottom: height };
  if (last?.result.width === width && last.result.height === height && last.linear === linear) {
    result.data.set(last.result.data);
    box = changedBox(last.stack, stack);
  }
  if (box) draw(stack, box, result, linear);
  last = { result, stack, linear };
  return result;
}

/** The smallest box around all layers that differ between two stacks, in themselves or in order; null if there are none. */
function changedBox(before, after) {
  const same = (one, other) => one?.placed === other?.placed && one?.opacity === other?.opacity && one?.mode === other?.mode;
  let box = null;
  for (let number = 0; number < Math.max(before.length, after.length); number++) {
    if (same(before[number], after[number])) continue;
    for (const { placed } of [before[number], after[number]].filter(Boolean)) {
      box = {
        left: Math.min(placed.left, box?.left ?? Infinity), top: Math.min(placed.top, box?.top ?? Infinity),
        right: Math.max(placed.right, box?.right ?? 0), bottom: Math.max(placed.bottom, box?.bottom ?? 0),
      };
    }
  }
  return box;
}

/** Computes the pixels of a box, a few rows at a time. */
function draw(stack, box, result, linear) {
  const width = box.right - box.left;
  const rows = Math.max(1, Math.floor(BAND / width));
  const image = new Float32Array(3 * rows * width);
  const beneath = new Float32Array(rows * width);
  for (let top = box.top; top < box.bottom; top += rows) {
    const band = { left: box.left, right: box.right, top, bottom: Math.min(top + rows, box.bottom) };
    image.fill(0);
    beneath.fill(1);
    for (const one of stack) (one.mode === "normal" ? layNormal : layBlended)(image, beneath, band, one, linear);
    finish(image, beneath, band, result, linear);
  }
}

/** Composites one layer onto a band of the premultiplied image. beneath: the transparency so far, 1 - alpha. */
function layNormal(image, beneath, band, { placed, opacity }, linear) {
  const { rgb, coverage } = placed;
  const factor = opacity / 255;
  const { top, bottom, left, right } = overlap(band, placed);
  for (let row = top; row < bottom; row++) {
    let from = placed.start + (row - placed.top) * placed.stride + left - placed.left;
    let to = (row - band.top) * (band.right - band.left) + left - band.left;
    for (let column = left; column < right; column++, from++, to++) {
      const weight = coverage[from] * factor;
      if (weight === 0) continue;
      const rest = 1 - weight;
      const red = rgb[3 * from] / 255;
      const green = rgb[3 * from + 1] / 255;
      const blue = rgb[3 * from + 2] / 255;
      image[3 * to] = image[3 * to] * rest + (linear ? toLight(red) : red) * weight;
      image[3 * to + 1] = image[3 * to + 1] * rest + (linear ? toLight(green) : green) * weight;
      image[3 * to + 2] = image[3 * to + 2] * rest + (linear ? toLight(blue) : blue) * weight;
      beneath[to] *= rest;
    }
  }
}

function layBlended(image, beneath, band, { placed, opacity, mode }, linear) {
  const { rgb, coverage } = placed;
  const inLight = linear && LINEAR_MODES.has(mode);
  const aside = linear && !inLight;
  const channelwise = SEPARABLE[mode];
  const whole = WHOLE[mode];
  const backdrop = [0, 0, 0];
  const colour = [0, 0, 0];
  const { top, bottom, left, right } = overlap(band, placed);
  for (let row = top; row < bottom; row++) {
    let from = placed.start + (row - placed.top) * placed.stride + left - placed.left;
    let to = (row - band.top) * (band.right - band.left) + left - band.left;
    for (let column = left; column < right; column++, from++, to++) {
      if (coverage[from] === 0) continue;
      const weight = (coverage[from] / 255) * opacity;
      const alpha = 1 - beneath[to];
      const scale = 1 / Math.max(alpha, 1e-6);
      for (let channel = 0; channel < 3; channel++) {
        const below = unit(image[3 * to + channel] * scale);
        const own = rgb[3 * from + channel] / 255;
        backdrop[channel] = aside ? toDisplay(below) : below;
        colour[channel] = inLight ? toLight(own) : own;
      }
      const mixed = whole?.(backdrop, colour);
      for (let channel = 0; channel < 3; channel++) {
        const blended = unit(mixed ? mixed[channel] : channelwise(backdrop[channel], colour[channel]));
        const own = aside ? toLight(colour[channel]) : colour[channel];
        const source = own + ((aside ? toLight(blended) : blended) - own) * alpha;
        image[3 * to + channel] += (source - image[3 * to + channel]) * weight;
      }
      beneath[to] *= 1 - weight;
    }
  }
}

function overlap(one, other) {
  return {
    left: Math.max(one.left, other.left), top: Math.max(one.top, other.top),
    right: Math.min(one.right, other.right), bottom: Math.min(one.bottom, other.bottom),
  };
}

function finish(image, beneath, { left, right, top, bottom }, { data, width }, linear) {
  let pixel = 0;
  for (let row = top; row < bottom; row++) {
    let out = 4 * (row * width + left);
    for (let column = left; column < right; column++, pixel++, out += 4) {
      const alpha = 1 - beneath[pixel];
      for (let channel = 0; channel < 3; channel++) {
        const straight = unit(image[3 * pixel + channel] / Math.max(alpha, 1e-6));
        data[out + channel] = 255 * (linear ? toDisplay(straight) : straight);
      }
      data[out + 3] = 255 * alpha;
    }
  }
}
