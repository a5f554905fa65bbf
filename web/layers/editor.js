// What the layer panel shows and changes: the layers that came from the server, the user's edits, which layer is selected.

import { fitted, withCopy, withFields, without } from "./changes.js";
import { applyEdits, parse, serialise } from "./edits.js";
import { middle, toCanvas } from "./geometry.js";
import { Kept } from "./kept.js";

// What the server takes.
const SCALE = [0.01, 100];
const MOST_LAYERS = 50;

export class Editor {
  document = null;
  /** The layers as the edits leave them; as they came while it is open whether the edits hold for them. */
  layers = [];
  /** The same as the panel shows them: of a solo layer no other is visible. */
  shown = [];
  problem = null;
  /** Whether the user is still at a change, as while a slider moves. */
  busy = false;
  #kept = new Kept();
  #edits = parse("");
  #text = "";
  #fixed = null;
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

  /** Have all that watches look again. */
  tell() {
    for (const watcher of this.#watchers) watcher();
  }

  /** Go on with what the node's panel kept before the page made it anew. */
  recall(kept) {
    this.#kept = kept;
  }

  get history() {
    return this.#kept.history;
  }

  /** The selected layer's number, null before there are layers. */
  get selected() {
    return this.#kept.selected;
  }

  /** The number of the layer that alone is shown, null where all are: a view, of which the server knows nothing. */
  get solo() {
    return this.#kept.solo;
  }

  /** The widget's text, which may hold edits for layers that are not here yet. */
  get text() {
    return this.#text;
  }

  /** The widget's text was set from elsewhere: the workflow was loaded, the page went a step back. */
  set text(text) {
    this.history.follow(text);
    if (text === this.#text) return;
    this.#take(text);
    this.#renew();
  }

  /** Whether the edits were made for other layers than those that are here. Those written by hand do not say. */
  get stale() {
    return this.document !== null && (this.#edits.made_for ?? this.document.madeFor) !== this.document.madeFor;
  }

  /** What is said of a layer: {} where it is as it came. */
  changes(index) {
    return this.#edits.layers[index] ?? {};
  }

  /** The selected layer as the edits leave it. */
  get layer() {
    return this.#find(this.selected);
  }

  /** Whether the selected layer may be changed. */
  get free() {
    return this.layer !== undefined && !this.layer.locked;
  }

  get canDuplicate() {
    return this.layer !== undefined && this.layers.length < MOST_LAYERS;
  }

  get canRemove() {
    return this.free && this.layers.length > 1;
  }

  /** Show the layers that a run gave. */
  show(document) {
    this.document = document;
    this.#fixed = null;
    this.#renew();
  }

  select(index) {
    this.#kept.selected = index;
    this.#fixed = null;
    this.#renew();
  }

  /** Change fields of a layer. final false: the user is still at it. tag: see History.add. */
  set(index, fields, { final = true, tag } = {}) {
    this.#fixed = null;
    this.#become(withFields(this.#edits, this.document, index, fields), final, tag);
  }

  /**
   * Scale or turn a layer. about: {point: [u, v] of the layer, at: [x, y] of the canvas}, what stays in its place; else it is
   * the middle of what the layer shows. The document does so about the middle of the layer's frame.
   */
  transform(index, fields, { about, final = true, tag } = {}) {
    const layer = this.#find(index);
    if (about) this.#fixed = null;
    about ??= this.#fixed ??= { point: middle(layer), at: toCanvas(layer, ...middle(layer)) };
    if ("scale" in fields) fields = { scale: round(Math.min(Math.max(fields.scale, SCALE[0]), SCALE[1]), 1000) };
    if ("rotation" in fields) fields = { rotation: round(((fields.rotation + 540) % 360 + 360) % 360 - 180, 10) };
    const changed = withFields(this.#edits, this.document, index, fields);
    const there = toCanvas(applyEdits(this.document, changed).find((other) => other.index === index), ...about.point);
    const { right = 0, down = 0 } = this.changes(index);
    const moved = { right: Math.round(right + about.at[0] - there[0]), down: Math.round(down + about.at[1] - there[1]) };
    this.#become(withFields(this.#edits, this.document, index, { ...fields, ...moved }), final, tag);
  }

  /** Put a layer at a place in the stack, 0 the bottom. */
  reorder(index, place) {
    const order = this.layers.map((layer) => layer.index).filter((other) => other !== index);
    order.splice(Math.min(Math.max(place, 0), order.length), 0, index);
    this.#become({ ...this.#edits, order });
  }

  /** Lay a copy of the selected layer on it, and select the copy. */
  duplicate() {
    const [edits, number] = withCopy(this.#edits, this.document, this.selected);
    [this.#kept.selected, this.#fixed] = [number, null];
    this.#become(edits);
  }

  /** Delete the selected layer; the one beneath it is selected, or else the one above. */
  remove() {
    const { selected, layers } = this;
    const place = layers.findIndex((layer) => layer.index === selected);
    [this.#kept.selected, this.#fixed] = [layers[place ? place - 1 : 1].index, null];
    this.#become(without(this.#edits, selected));
  }

  /** Show one layer alone, or all again where it was alone. */
  toggleSolo(index) {
    this.#kept.solo = this.solo === index ? null : index;
    this.#renew();
  }

  /** The edits hold for these layers, too. */
  apply() {
    this.#become(fitted(this.#edits, this.document));
  }

  /** Back to the layers as they came. */
  reset() {
    this.#kept.solo = null;
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

  #find(index) {
    return this.layers.find((layer) => layer.index === index);
  }

  #take(text) {
    this.#text = text;
    this.#fixed = null;
    this.problem = null;
    this.busy = false;
    try {
      this.#edits = parse(text);
    } catch (error) {
      this.#edits = parse("");
      this.problem = error.message;
    }
  }

  #become(edits, final = true, tag) {
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
    if (this.document) {
      this.layers = applyEdits(this.document, this.stale ? parse("") : this.#edits);
      if (!this.layer) this.#kept.selected = this.layers.at(-1)?.index ?? null;
      if (!this.#find(this.solo)) this.#kept.solo = null;
      this.shown = this.solo === null ? this.layers
        : this.layers.map((layer) => ({ ...layer, visible: layer.index === this.solo }));
    }
    this.tell();
  }
}

function round(value, parts) {
  return Math.round(value * parts) / parts;
}
