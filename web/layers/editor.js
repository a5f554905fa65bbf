// What the layer panel shows and changes: the layers that came from the server, the user's edits, which layer is selected.

import { applyEdits, parse, serialise } from "./edits.js";
import { centre } from "./geometry.js";
import { History } from "./history.js";

// What the server takes.
const SCALE = [0.01, 100];
const FARTHEST = 16384;

export class Editor {
  document = null;
  layers = [];
  selected = null;
  problem = null;
  /** Whether the user is still at a change, as while a slider moves. */
  busy = false;
  history = new History();
  #edits = parse("");
  #text = "";
  #pivot = null;
  #write;
  #watchers = [];

  /** write(text): puts what the user changed into the node's widget. */
  constructor(write) {
    this.#write = write;
  }

  /** Call `watcher` after every change. */
  watch(watcher) {
    this.#watchers.push(watcher);
  }

  /** The widget's text, which may hold edits for layers that are not here yet. */
  get text() {
    return this.#text;
  }

  /** The widget's text was set from elsewhere: the workflow was loaded, the page went a step back. */
  set text(text) {
    if (text === this.#text) return;
    this.#take(text);
    this.history.follow(text);
    this.#renew();
  }

  /** Whether the edits were made for other layers than those that are here. Those written by hand do not say. */
  get stale() {
    return this.document !== null && (this.#edits.made_for ?? this.document.madeFor) !== this.document.madeFor;
  }

  /** What is said of a layer, by its place before the edits: {} where it is as it came. */
  changes(index) {
    return this.#edits.layers[index] ?? {};
  }

  /** The place before the edits of the layer that alone is shown; undefined where all are. */
  get solo() {
    return this.#edits.solo;
  }

  /** The selected layer as the edits leave it. */
  get layer() {
    return this.layers.find((layer) => layer.index === this.selected);
  }

  /** Show the layers that a run gave. */
  show(document) {
    this.document = document;
    this.#pivot = null;
    if (this.selected === null || this.selected >= document.layers.length) this.selected = document.layers.length - 1;
    this.#renew();
  }

  select(index) {
    this.selected = index;
    this.#pivot = null;
    this.#renew();
  }

  /** Change fields of a layer. final false: the user is still at it. tag: see History.add. */
  set(index, fields, { final = true, tag } = {}) {
    this.#pivot = null;
    this.#become(this.#with(index, fields), final, tag);
  }

  /** Scale or turn a layer about the middle of what it shows. The document does so about the middle of its frame. */
  transform(index, fields, { final = true, tag } = {}) {
    this.#pivot ??= centre(this.layers.find((layer) => layer.index === index));
    if ("scale" in fields) fields = { scale: round(Math.min(Math.max(fields.scale, SCALE[0]), SCALE[1]), 1000) };
    if ("rotation" in fields) fields = { rotation: round(((fields.rotation + 540) % 360 + 360) % 360 - 180, 10) };
    const changed = this.#with(index, fields);
    const there = centre(applyEdits(this.document, changed).find((layer) => layer.index === index));
    const { right = 0, down = 0 } = this.changes(index);
    const moved = { right: Math.round(right + this.#pivot[0] - there[0]), down: Math.round(down + this.#pivot[1] - there[1]) };
    this.#become(this.#with(index, { ...fields, ...moved }), final, tag);
  }

  /** Put a layer at a place in the stack, 0 the bottom. */
  reorder(index, place) {
    const order = this.layers.map((layer) => layer.index).filter((other) => other !== index);
    order.splice(Math.min(Math.max(place, 0), order.length), 0, index);
    this.#become({ ...this.#edits, order }, true);
  }

  /** Show one layer alone, or all again where it was alone. */
  toggleSolo(index) {
    const { solo, ...rest } = this.#edits;
    this.#become(solo === index ? rest : { ...rest, solo: index }, true);
  }

  /** The edits hold for these layers, too. */
  keep() {
    this.#become(this.#edits, true);
  }

  /** Back to the layers as they came. */
  reset() {
    this.#take("");
    this.history.add("");
    this.#write("");
    this.#renew();
  }

  /** Take the last change back (-1) or do it again (1). */
  step(by) {
    this.#take(this.history.step(by));
    this.#write(this.#text);
    this.#renew();
  }

  #take(text) {
    this.#text = text;
    this.#pivot = null;
    this.problem = null;
    this.busy = false;
    try {
      this.#edits = parse(text);
    } catch (error) {
      this.#edits = parse("");
      this.problem = error.message;
    }
  }

  #with(index, fields) {
    const change = { ...this.changes(index), ...fields };
    for (const key of ["right", "down"]) if (key in change) change[key] = Math.min(Math.max(change[key], -FARTHEST), FARTHEST);
    const original = this.document.layers[index];
    for (const key of ["visible", "opacity", "blend_mode"]) if (change[key] === original[key]) delete change[key];
    return { ...this.#edits, layers: { ...this.#edits.layers, [index]: change } };
  }

  #become(edits, final, tag) {
    this.#edits = { ...edits, made_for: this.document.madeFor };
    this.busy = !final;
    if (final) {
      this.#text = serialise(this.#edits);
      this.problem = null;
      this.history.add(this.#text, tag);
      this.#write(this.#text);
    }
    this.#renew();
  }

  #renew() {
    this.layers = this.document ? applyEdits(this.document, this.#edits) : [];
    for (const watcher of this.#watchers) watcher();
  }
}

function round(value, parts) {
  return Math.round(value * parts) / parts;
}
