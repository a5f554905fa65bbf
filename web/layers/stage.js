// The composite, and on it the selected layer's frame: layers are picked, moved, scaled and turned here.

import { composite } from "./composite.js";
import { draw, make } from "./dom.js";
import { visibleLayers } from "./edits.js";
import { centre, corners, covers, inBox, resized } from "./geometry.js";

const HINT = "Canvas. The arrow keys move the selected layer, with Shift by 10 pixels. Plus and Minus scale it, Comma and " +
  "Period rotate it, Page Up and Page Down move it in the stack, Delete hides it.";
const PADDING = 16;
const ARM = 22;
const COARSE_TURN = 15;
const MUCH_SMALLER = 0.7;

export class Stage {
  #editor;
  #canvas = make("canvas");
  #overlay = draw("svg", { "aria-hidden": "true" });
  #frame = make("div", { class: "frame" }, this.#canvas, this.#overlay);
  #drawn = null;
  #gesture = null;
  #waiting = false;

  constructor(editor) {
    this.#editor = editor;
    this.element = make("div", {
      class: "stage", tabindex: 0, role: "application", "aria-label": HINT,
      onpointerdown: (event) => this.#down(event), onpointermove: (event) => this.#move(event),
      onpointerup: () => this.#up(), onpointercancel: () => this.#up(), onkeydown: (event) => this.#key(event),
    }, this.#frame);
    this.element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    new ResizeObserver(() => this.#fit()).observe(this.element);
    editor.watch(() => this.#refresh());
  }

  #refresh() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#paint();
      this.#fit();
    });
  }

  #paint() {
    const { document, layers } = this.#editor;
    if (!document || layers === this.#drawn) return;
    this.#drawn = layers;
    const factor = this.#editor.busy ? this.#draftFactor() : 1;
    const canvas = document.canvas.map((side) => Math.max(1, Math.round(side * factor)));
    const picture = composite(layers.map((layer) => (factor < 1 ? resized(layer, factor) : layer)), canvas, document.linear);
    [this.#canvas.width, this.#canvas.height] = canvas;
    this.#canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  /** How much smaller a picture is drawn while the user is at it: as large as it is shown. 1 where that saves little. */
  #draftFactor() {
    const factor = (this.#frame.clientWidth * devicePixelRatio) / this.#editor.document.canvas[0];
    return factor > 0 && factor < MUCH_SMALLER ? factor : 1;
  }

  #fit() {
    const { document } = this.#editor;
    const [wide, high] = [this.element.clientWidth - 2 * PADDING, this.element.clientHeight - 2 * PADDING];
    if (!document || wide <= 0 || high <= 0) return;
    const scale = Math.min(wide / document.canvas[0], high / document.canvas[1]);
    this.#frame.style.width = `${document.canvas[0] * scale}px`;
    this.#frame.style.height = `${document.canvas[1] * scale}px`;
    this.#outline(scale);
  }

  #outline(scale) {
    const layer = this.#editor.layer;
    if (!layer?.visible) return this.#overlay.replaceChildren();
    const points = corners(layer).map(([x, y]) => [x * scale, y * scale]);
    const box = draw("polygon", { points: points.join(" "), class: "box" });
    if (layer.locked) return this.#overlay.replaceChildren(box);
    const scales = points.map(([cx, cy], corner) =>
      draw("circle", { cx, cy, r: 5, "data-handle": "scale", class: corner % 2 ? "rising" : "falling" }));
    const [from, to] = this.#arm(points);
    const arm = draw("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: "arm" });
    const turn = draw("circle", { cx: to[0], cy: to[1], r: 5, "data-handle": "turn" });
    this.#overlay.replaceChildren(box, arm, turn, ...scales);
  }

  /** From the middle of the frame's upper side outwards, or inwards where there is no room outside. */
  #arm([[left, top], [right, rightTop], , [bottomLeft, bottom]]) {
    const middle = [(left + right) / 2, (top + rightTop) / 2];
    const height = Math.hypot(bottomLeft - left, bottom - top) || 1;
    const out = [((left - bottomLeft) / height) * ARM, ((top - bottom) / height) * ARM];
    const end = [middle[0] + out[0], middle[1] + out[1]];
    const [marginX, marginY] = [this.#frame.offsetLeft - 6, this.#frame.offsetTop - 6];
    const inside = end[0] > -marginX && end[1] > -marginY && end[0] < this.#frame.clientWidth + marginX && end[1] < this.#frame.clientHeight + marginY;
    return [middle, inside ? end : [middle[0] - out[0], middle[1] - out[1]]];
  }

  /** Where on the canvas, in its pixels, the pointer is. */
  #point(event) {
    const box = this.#frame.getBoundingClientRect();
    const { canvas } = this.#editor.document;
    return [((event.clientX - box.left) / box.width) * canvas[0], ((event.clientY - box.top) / box.height) * canvas[1]];
  }

  #down(event) {
    const editor = this.#editor;
    if (event.button !== 0 || !editor.document || this.#gesture) return;
    const point = this.#point(event);
    const kind = event.target.dataset.handle ?? "move";
    if (kind === "move" && !this.#pick(point)) return;
    this.element.setPointerCapture(event.pointerId);
    const { right = 0, down = 0, scale = 1, rotation = 0 } = editor.changes(editor.selected);
    this.#gesture = { kind, point, middle: centre(editor.layer), right, down, scale, rotation, last: null };
  }

  /** Select the layer under the pointer; whether it is to move. */
  #pick(point) {
    const editor = this.#editor;
    const bottom = editor.layers[0].index;
    const before = editor.layer;
    const hit = visibleLayers(editor.layers).findLast((layer) => !layer.locked && covers(layer, ...point));
    // Between the parts of the selected layer it is meant, too.
    if ((!hit || hit.index === bottom) && this.#free() && before.visible && inBox(before, ...point)) return true;
    if (!hit) return false;
    if (hit.index !== before.index) editor.select(hit.index);
    // The bottom layer mostly fills the picture: it moves only where it was selected before.
    return hit.index !== bottom || hit.index === before.index;
  }

  #move(event) {
    if (!this.#gesture) return;
    const { kind, point, middle, right, down, scale, rotation } = this.#gesture;
    const [x, y] = this.#point(event);
    if (kind === "move") {
      this.#change("set", { right: right + Math.round(x - point[0]), down: down + Math.round(y - point[1]) });
    } else if (kind === "scale") {
      const [before, now] = [point, [x, y]].map(([px, py]) => Math.hypot(px - middle[0], py - middle[1]));
      this.#change("transform", { scale: (scale * now) / Math.max(before, 1) });
    } else {
      const [before, now] = [point, [x, y]].map(([px, py]) => Math.atan2(py - middle[1], px - middle[0]) * (180 / Math.PI));
      const turned = rotation + now - before;
      this.#change("transform", { rotation: event.shiftKey ? Math.round(turned / COARSE_TURN) * COARSE_TURN : turned });
    }
  }

  #change(how, fields) {
    this.#gesture.last = [how, fields];
    this.#editor[how](this.#editor.selected, fields, { final: false });
  }

  #up() {
    const last = this.#gesture?.last;
    this.#gesture = null;
    if (last) this.#editor[last[0]](this.#editor.selected, last[1]);
  }

  #wheel(event) {
    if (!this.#free() || !this.element.contains(document.activeElement) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.#scaleBy(Math.exp(-(event.deltaY || event.deltaX) / 1000), "wheel");
  }

  #free() {
    const layer = this.#editor.layer;
    return layer !== undefined && !layer.locked;
  }

  #scaleBy(factor, tag) {
    const { scale = 1 } = this.#editor.changes(this.#editor.selected);
    this.#editor.transform(this.#editor.selected, { scale: scale * factor }, { tag });
  }

  #turnBy(degrees, tag) {
    const { rotation = 0 } = this.#editor.changes(this.#editor.selected);
    this.#editor.transform(this.#editor.selected, { rotation: rotation + degrees }, { tag });
  }

  #moveBy(x, y, tag) {
    const { right = 0, down = 0 } = this.#editor.changes(this.#editor.selected);
    this.#editor.set(this.#editor.selected, { right: right + x, down: down + y }, { tag });
  }

  #restack(by) {
    const { layers, selected } = this.#editor;
    this.#editor.reorder(selected, layers.findIndex((layer) => layer.index === selected) + by);
  }

  #key(event) {
    const { key, shiftKey } = event;
    const move = shiftKey ? 10 : 1;
    const scale = shiftKey ? 1.1 : 1.01;
    const turn = shiftKey ? COARSE_TURN : 1;
    const actions = {
      ArrowLeft: () => this.#moveBy(-move, 0, key), ArrowRight: () => this.#moveBy(move, 0, key),
      ArrowUp: () => this.#moveBy(0, -move, key), ArrowDown: () => this.#moveBy(0, move, key),
      "+": () => this.#scaleBy(scale, key), "=": () => this.#scaleBy(scale, key),
      "-": () => this.#scaleBy(1 / scale, key), _: () => this.#scaleBy(1 / scale, key),
      ",": () => this.#turnBy(-turn, key), "<": () => this.#turnBy(-turn, key),
      ".": () => this.#turnBy(turn, key), ">": () => this.#turnBy(turn, key),
      PageUp: () => this.#restack(1), PageDown: () => this.#restack(-1),
      Delete: () => this.#editor.set(this.#editor.selected, { visible: false }),
    };
    if (!(key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (this.#free()) actions[key]();
  }
}
