// The blend modes of blend.py. Colours are 0..1 and not premultiplied; results are not clamped.

const SMALL = 1e-6;

const screen = (b, s) => b + s - b * s;
const hardLight = (b, s) => (s <= 0.5 ? 2 * b * s : screen(b, 2 * s - 1));
const colorDodge = (b, s) => Math.min(b / Math.max(1 - s, SMALL), 1);
// White that was converted to linear light and back is not exactly 1, and a black source would burn it.
const colorBurn = (b, s) => (b >= 1 - SMALL ? 1 : 1 - Math.min((1 - b) / Math.max(s, SMALL), 1));
const lightened = (b) => (b <= 0.25 ? ((16 * b - 12) * b + 4) * b : Math.sqrt(b));

/** Modes that work on one channel at a time: (backdrop, source) -> value. */
export const SEPARABLE = {
  normal: (b, s) => s,
  multiply: (b, s) => b * s,
  screen,
  overlay: (b, s) => hardLight(s, b),
  darken: (b, s) => Math.min(b, s),
  lighten: (b, s) => Math.max(b, s),
  "color-dodge": colorDodge,
  "color-burn": colorBurn,
  "hard-light": hardLight,
  "soft-light": (b, s) => (s <= 0.5 ? b - (1 - 2 * s) * b * (1 - b) : b + (2 * s - 1) * (lightened(b) - b)),
  difference: (b, s) => Math.abs(b - s),
  exclusion: (b, s) => b + s - 2 * b * s,
  "linear-dodge": (b, s) => b + s,
  "linear-burn": (b, s) => b + s - 1,
  "vivid-light": (b, s) => (s <= 0.5 ? colorBurn(b, 2 * s) : colorDodge(b, 2 * s - 1)),
  "linear-light": (b, s) => b + 2 * s - 1,
  "pin-light": (b, s) => (s <= 0.5 ? Math.min(b, 2 * s) : Math.max(b, 2 * s - 1)),
  "hard-mix": (b, s) => (b + s >= 1 ? 1 : 0),
  subtract: (b, s) => b - s,
  divide: (b, s) => b / Math.max(s, SMALL),
  "grain-extract": (b, s) => b - s + 0.5,
  "grain-merge": (b, s) => b + s - 0.5,
};

const luminosity = (c) => 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2];
const low = (c) => Math.min(c[0], c[1], c[2]);
const high = (c) => Math.max(c[0], c[1], c[2]);
const saturation = (c) => high(c) - low(c);

function withSaturation(c, wanted) {
  const least = low(c);
  const factor = wanted / Math.max(saturation(c), SMALL);
  return [(c[0] - least) * factor, (c[1] - least) * factor, (c[2] - least) * factor];
}

function withLuminosity(c, wanted) {
  const shift = wanted - luminosity(c);
  const least = low(c) + shift;
  const most = high(c) + shift;
  let factor = 1;
  if (least < 0) factor = wanted / Math.max(wanted - least, SMALL);
  if (most > 1) factor = (1 - wanted) / Math.max(most - wanted, SMALL);
  return c.map((value) => wanted + (value + shift - wanted) * factor);
}

/** Modes that work on the whole colour: (backdrop, source) -> colour, each [r, g, b]. */
export const WHOLE = {
  hue: (b, s) => withLuminosity(withSaturation(s, saturation(b)), luminosity(b)),
  saturation: (b, s) => withLuminosity(withSaturation(b, saturation(s)), luminosity(b)),
  color: (b, s) => withLuminosity(s, luminosity(b)),
  luminosity: (b, s) => withLuminosity(b, luminosity(s)),
};

/** The names of all modes, the W3C's first, in the same order as on the server. */
export const MODES = [
  ...Object.keys(SEPARABLE).slice(0, 12), ...Object.keys(WHOLE), ...Object.keys(SEPARABLE).slice(12),
];
