// The selected layer's frame and handles, in screen pixels. Handles stay within the view and apart from each other.

import { draw } from "./dom.js";
import { corners, toCanvas } from "./geometry.js";

/** The least distance between corners of the handles' box, and the least part of it that stays in the view. */
const LEAST = 28;
const ARM = 22;
const RADIUS = 5;
/** Anything closer to a corner than this cannot be told apart from it. */
const APART = 16;

const TIPS = {
  move: "Drag to move the layer",
  scale: "Drag to scale the layer from the opposite corner, with Alt from its centre",
  turn: "Drag to rotate the layer, with Shift in steps of 15°",
};

export class Handles {
  element = draw("svg", { "aria-hidden": "true" });

  /** layer: as shown, if any. scale: screen pixels per canvas pixel. view: the visible part, relative to the canvas's corner. */
  show(layer, scale, view) {
    if (!layer?.visible) return this.element.replaceChildren();
    const points = corners(layer).map(([u, v]) => toCanvas(layer, u, v).map((value) => value * scale));
    const box = draw("polygon", { points: points.join(" "), class: "box" });
    if (layer.locked) return this.element.replaceChildren(box);
    const { held, small, arm } = reachable(points, view);
    const parts = [box];
    if (held.some((point, corner) => distance(point, points[corner]) > 1)) {
      const settings = { points: held.join(" "), class: "held" };
      parts.push(small ? draw("polygon", { ...settings, "data-handle": "move" }, tip("move")) : draw("polygon", settings));
    }
    const [from, to] = arm;
    parts.push(draw("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: "arm" }), handle(to, "turn"));
    this.element.replaceChildren(...parts, ...held.map((point, corner) =>
      handle(point, "scale", { "data-corner": corner, class: direction(point, held[(corner + 2) % 4]) })));
  }
}

const tip = (kind) => draw("title", {}, TIPS[kind]);

function handle([cx, cy], kind, settings = {}) {
  return draw("circle", { cx, cy, r: RADIUS, "data-handle": kind, ...settings }, tip(kind));
}

/** The resize cursor of a corner, by the diagonal on which it moves. */
const direction = ([x, y], [otherX, otherY]) => ((x - otherX) * (y - otherY) > 0 ? "falling" : "rising");

/**
 * Where to draw the handles of a box, given by its screen corners, within a view {left, top, right, bottom}.
 * Returns {held: the four corners, small: whether the box itself is too small or too far away to grab, arm: the line to the
 * rotation handle, [from, to]}.
 */
export function reachable(points, { left, top, right, bottom }) {
  const margin = RADIUS + 2;
  const view = { left: left + margin, top: top + margin, right: right - margin, bottom: bottom - margin };
  const wide = atLeast(points);
  const shift = [nearer(wide, 0, view.left, view.right), nearer(wide, 1, view.top, view.bottom)];
  const held = wide.map(([x, y]) => [
    Math.min(Math.max(x + shift[0], view.left), view.right), Math.min(Math.max(y + shift[1], view.top), view.bottom),
  ]);
  const small = shift.some((way) => way !== 0) || wide.some((point, corner) => distance(point, points[corner]) > 1);
  return { held, small, arm: arm(held, wide, view) };
}

/** The box resized to these side lengths, about its centre. */
function atLeast([first, second, third, fourth]) {
  const middle = [(first[0] + third[0]) / 2, (first[1] + third[1]) / 2];
  const half = (from, to) => {
    const length = distance(from, to);
    const factor = Math.max(length, LEAST) / length / 2;
    return [(to[0] - from[0]) * factor, (to[1] - from[1]) * factor];
  };
  const [across, along] = [half(first, second), half(first, fourth)];
  return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([u, v]) =>
    [0, 1].map((axis) => middle[axis] + u * across[axis] + v * along[axis]));
}

/** How far along an axis a box has to move for part of it to be in view. */
function nearer(points, axis, low, high) {
  const values = points.map((point) => point[axis]);
  return Math.max(0, low + LEAST - Math.max(...values)) + Math.min(0, high - LEAST - Math.min(...values));
}

/** From the middle of a side outwards, the top side if there is room. If no side has room, from the top side inwards. */
function arm(held, box, view) {
  const seen = ([x, y]) => x >= view.left && x <= view.right && y >= view.top && y <= view.bottom;
  const apart = (point) => held.every((corner) => distance(corner, point) >= APART);
  const arms = [0, 2, 1, 3].map((side) => {
    const [one, other, next] = [held[side], held[(side + 1) % 4], [box[(side + 1) % 4], box[(side + 2) % 4]]];
    const from = [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2];
    const length = distance(...next);
    return { from, out: [0, 1].map((axis) => ((next[0][axis] - next[1][axis]) / length) * ARM) };
  });
  const to = ({ from, out }, way = 1) => [from[0] + way * out[0], from[1] + way * out[1]];
  const free = arms.find((one) => seen(to(one)) && apart(to(one)));
  return free ? [free.from, to(free)] : [arms[0].from, to(arms[0], -1)];
}

function distance(one, other) {
  return Math.hypot(other[0] - one[0], other[1] - one[1]);
}
