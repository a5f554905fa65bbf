// The state of the layer panel: the layers from the server, the user's edits, and the selected layer.

import { fitted, withCopy, withFields, without } from "./changes.js";
import { applyEdits, parse, serialise } from "./edits.js";
import { middle, toCanvas } from "./geometry.js";
import { Kept } from "./kept.js";

// The limits that the server accepts.
const SCALE = [0.01, 100];
const MOST_LAYERS = 50;

export class Editor {
  document = null;
  /** The layers with the edits applied, or as they came while the user has not yet decided whether to keep the edits. */
  layers = [];
  /** The layers as the panel shows them: if one is solo, all others are hidden. */
  shown = [];
  problem = null;
  /** Whether a change is still in progress, for example while a slider is being dragged. */
  busy = false;
  #kept = new Kept();
  #edits = parse("");
  #text = "";
  #fixed = null;
  #write;
  #watchers = [];

  /** write(text): stores the user's edits in the node's widget. */
  constructor(write) {
    this.#write = write;
  }

  /** Calls `watcher` after every change. */
  watch(watcher) {
    this.#watchers.push(watcher);
  }

  /** Notifies all watchers. */
  tell() {
    for (const watcher of this.#watchers) watcher();
  }

  /** Restores what the node's panel kept before the page recreated the node. */
  recall(kept) {
    this.#kept = kept;
  }

  get history() {
    return this.#kept.history;
  }

  /** The number of the selected layer, null if there are no layers yet. */
  get selected() {
    return this.#kept.selected;
  }

  /** The number of the solo layer, null if there is none. Only a view: the server does not know about it. */
  get solo() {
    return this.#kept.solo;
  }

  /** The widget's text. It may hold edits for layers that have not arrived yet. */
  get text() {
    return this.#text;
  }

  /** Called when the widget's text is set from outside: a workflow was loaded, or the page undid a step. */
  set text(text) {
    this.history.follow(text);
    if (text === this.#text) return;
    this.#take(text);
    this.#renew();
  }

  /** Whether the edits were made for layers other than these. Edits written by hand do not record their layers. */
  get stale() {
    return this.document !== null && (this.#edits.made_for ?? this.document.madeFor) !== this.document.madeFor;
  }

  /** The edits of one layer, {} if it is unchanged. */
  changes(index) {
    return this.#edits.layers[index] ?? {};
  }

  /** The selected layer with its edits applied. */
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

  /** Shows the layers of a run. */
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

  /** Changes fields of a layer. final: false while the change is in progress. tag: see History.add. */
  set(index, fields, { final = true, tag } = {}) {
    this.#fixed = null;
    this.#become(withFields(this.#edits, this.document, index, fields), final, tag);
  }

  /**
   * Scales or rotates a layer. about: {point: [u, v] of the layer, at: [x, y] of the canvas}, the point that stays in place.
   * Default: the centre of the layer's content, whereas the document transforms about the centre of the layer's frame.
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

  /** Moves a layer to a position in the stack, where 0 is the bottom. */
  reorder(index, place) {
    const order = this.layers.map((layer) => layer.index).filter((other) => other !== index);
    order.splice(Math.min(Math.max(place, 0), order.length), 0, index);
    this.#become({ ...this.#edits, order });
  }

  /** Duplicates the selected layer, directly above it, and selects the copy. */
  duplicate() {
    const [edits, number] = withCopy(this.#edits, this.document, this.selected);
    [this.#kept.selected, this.#fixed] = [number, null];
    this.#become(edits);
  }

  /** Deletes the selected layer and selects the one below it, or the one above if it was the bottom layer. */
  remove() {
    const { selected, layers } = this;
    const place = layers.findIndex((layer) => layer.index === selected);
    [this.#kept.selected, this.#fixed] = [layers[place ? place - 1 : 1].index, null];
    this.#become(without(this.#edits, selected));
  }

  /** Shows only one layer, or all layers again if it is solo already. */
  toggleSolo(index) {
    this.#kept.solo = this.solo === index ? null : index;
    this.#renew();
  }

  /** Keeps the edits for these layers. */
  apply() {
    this.#become(fitted(this.#edits, this.document));
  }

  /** Discards all edits. */
  reset() {
    this.#kept.solo = null;
    this.#take("");
    this.history.add("");
    this.#write("");
    this.#renew();
  }

  /** Undoes the last change (-1) or redoes it (1). */
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
