// The composite with the selected layer's frame, where layers are picked, moved, scaled and rotated.

import { composite } from "./composite.js";
import { draw, make } from "./dom.js";
import { visibleLayers } from "./edits.js";
import { corners, covers, inBox, middle, resized, toCanvas } from "./geometry.js";
import { Handles } from "./handles.js";

const HINT = "Canvas. The arrow keys move the selected layer, with Shift by 10 pixels. Plus and Minus scale it, Comma and " +
  "Period rotate it, Page Up and Page Down move it in the stack, Delete deletes it.";
const PADDING = 18;
const COARSE_TURN = 15;
const MUCH_SMALLER = 0.7;

export class Stage {
  #editor;
  #canvas = make("canvas");
  #handles = new Handles();
  #frame = make("div", { class: "frame" }, this.#canvas, this.#handles.element);
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
    const { document, shown: layers } = this.#editor;
    if (!document || layers === this.#drawn) return;
    this.#drawn = layers;
    const factor = this.#editor.busy ? this.#draftFactor() : 1;
    const canvas = document.canvas.map((side) => Math.max(1, Math.round(side * factor)));
    const picture = composite(layers.map((layer) => (factor < 1 ? resized(layer, factor) : layer)), canvas, document.linear);
    [this.#canvas.width, this.#canvas.height] = canvas;
    this.#canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  /** The scale at which to draw while a change is in progress: that of the display, or 1 if this saves little. */
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
    const { offsetLeft: left, offsetTop: top } = this.#frame;
    const view = { left: -left, top: -top, right: this.element.clientWidth - left, bottom: this.element.clientHeight - top };
    this.#handles.show(this.#selected, scale, view);
  }

  /** The selected layer as the panel shows it. */
  get #selected() {
    return this.#editor.shown.find((layer) => layer.index === this.#editor.selected);
  }

  /** The pointer's position in canvas pixels. */
  #point(event) {
    const box = this.#frame.getBoundingClientRect();
    const { canvas } = this.#editor.document;
    return [((event.clientX - box.left) / box.width) * canvas[0], ((event.clientY - box.top) / box.height) * canvas[1]];
  }

  #down(event) {
    const editor = this.#editor;
    if (event.button !== 0 || !editor.document || this.#gesture) return;
    const point = this.#point(event);
    const { handle, corner } = event.target.dataset;
    if (!handle && !this.#pick(point)) return;
    this.element.setPointerCapture(event.pointerId);
    const { layer } = editor;
    const fixed = (place) => ({ point: place, at: toCanvas(layer, ...place) });
    const places = corners(layer);
    this.#gesture = {
      kind: handle ?? "move", point, middle: fixed(middle(layer)), last: null,
      corner: corner && fixed(places[corner]).at, opposite: corner && fixed(places[(Number(corner) + 2) % 4]),
      right: 0, down: 0, scale: 1, rotation: 0, ...editor.changes(layer.index),
    };
  }

  /** Selects the layer under the pointer. Returns whether dragging may move it. */
  #pick(point) {
    const editor = this.#editor;
    const bottom = editor.layers[0].index;
    const before = this.#selected;
    const hit = visibleLayers(editor.shown).findLast((layer) => !layer.locked && covers(layer, ...point));
    // A click in a gap between parts of the selected layer also means that layer.
    if ((!hit || hit.index === bottom) && editor.free && before.visible && inBox(before, ...point)) return true;
    if (!hit) return false;
    if (hit.index !== before.index) editor.select(hit.index);
    // The bottom layer usually fills the image, so it moves only if it was already selected.
    return hit.index !== bottom || hit.index === before.index;
  }

  #move(event) {
    if (!this.#gesture) return;
    const { kind, point, middle: { at: centre }, right, down, rotation } = this.#gesture;
    const [x, y] = this.#point(event);
    if (kind === "move") {
      this.#change("set", { right: right + Math.round(x - point[0]), down: down + Math.round(y - point[1]) });
    } else if (kind === "scale") {
      this.#scaleTo(x - point[0], y - point[1], event.altKey);
    } else {
      const [before, now] = [point, [x, y]].map(([px, py]) => Math.atan2(py - centre[1], px - centre[0]) * (180 / Math.PI));
      const turned = rotation + now - before;
      this.#change("transform", { rotation: event.shiftKey ? Math.round(turned / COARSE_TURN) * COARSE_TURN : turned });
    }
  }

  /** Moves the held corner by x, y along the diagonal. The opposite corner stays in place, or the centre. */
  #scaleTo(x, y, fromMiddle) {
    const { corner, opposite, middle: centre, scale } = this.#gesture;
    const about = fromMiddle ? centre : opposite;
    const [across, along] = [corner[0] - about.at[0], corner[1] - about.at[1]];
    // A handle may be drawn away from its corner, so what counts is how far the pointer moved, not where it is.
    const factor = 1 + (x * across + y * along) / Math.max(across ** 2 + along ** 2, 1);
    this.#change("transform", { scale: scale * factor }, { about });
  }

  #change(how, fields, options) {
    this.#gesture.last = [how, fields, options];
    this.#editor[how](this.#editor.selected, fields, { ...options, final: false });
  }

  #up() {
    const last = this.#gesture?.last;
    this.#gesture = null;
    if (!last) return;
    const [how, fields, options] = last;
    this.#editor[how](this.#editor.selected, fields, options);
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
      Delete: () => this.#editor.canRemove && this.#editor.remove(),
      Backspace: () => actions.Delete(),
    };
    if (!(key in actions) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (this.#editor.free) actions[key]();
  }
}
