// The layer panel inside a node: the bar that opens it, the image, the selected layer's properties, and the list of layers.

import { iconButton, icon, make } from "./dom.js";
import { Editor } from "./editor.js";
import { recall } from "./kept.js";
import { LayerList } from "./list.js";
import { loadDocument } from "./load.js";
import { Properties } from "./properties.js";
import { Stage } from "./stage.js";

const CLOSED_HEIGHT = 30;
const OPEN_HEIGHT = 440;
const KEPT_DOCUMENTS = 4;
const documents = new Map();

/** Recently loaded layers. The page recreates its nodes, and so their panels, on every undo. */
function load(payload, viewUrl) {
  const key = JSON.stringify(payload);
  const found = documents.get(key) ?? loadDocument(payload, viewUrl);
  documents.delete(key);
  documents.set(key, found);
  found.catch(() => documents.delete(key));
  if (documents.size > KEPT_DOCUMENTS) documents.delete(documents.keys().next().value);
  return found;
}

export class Panel {
  #editor;
  #viewUrl;
  #payload = null;
  #loaded = null;
  #failure = "";
  #parts;

  /**
   * write(text): stores the edits. toggled(open): called when the user opens or closes the panel. viewUrl: see loadDocument.
   * redraw: on a node that redraws layers, {text: the chosen layers, can be set; linked: whether they come from another node;
   * added(count): the number of the layer that the node adds, out of `count` in all, or null}.
   */
  constructor({ write, toggled, viewUrl, redraw = null }) {
    this.#viewUrl = viewUrl;
    const editor = new Editor(write);
    this.#editor = editor;
    const title = make("button", { type: "button", class: "title", onclick: () => toggled(!this.open) },
      icon("chevron"), icon("layers"), "Layers");
    const badge = make("span", { class: "badge" });
    const undo = iconButton("undo", "Undo layer edit", () => editor.step(-1));
    const redo = iconButton("redo", "Redo layer edit", () => editor.step(1));
    const reset = iconButton("reset", "Reset all layer edits", () => editor.reset());
    const notice = make("div", { class: "notice", role: "status" }, "These edits were made for other layers.",
      make("button", { type: "button", class: "plain", onclick: () => editor.apply() }, "Apply"),
      make("button", { type: "button", class: "plain", onclick: () => editor.reset() }, "Discard"));
    const empty = make("p", { class: "empty" });
    const inside = make("div", { class: "inside" }, new Stage(editor).element, new Properties(editor).element,
      new LayerList(editor, redraw).element);
    this.#parts = { title, badge, undo, redo, reset, notice, empty, inside };
    this.element = make("div", {
      class: "layerdiff-panel", onkeydown: (event) => this.#key(event),
    }, make("div", { class: "bar" }, title, badge, make("span", { class: "space" }), undo, redo, reset), notice, empty, inside);
    editor.watch(() => this.#refresh());
    this.open = false;
  }

  get open() {
    return this.element.classList.contains("open");
  }

  set open(open) {
    this.element.classList.toggle("open", open);
    this.element.style.minHeight = `${this.height}px`;
    this.#load();
    this.#refresh();
  }

  get height() {
    return this.open ? OPEN_HEIGHT : CLOSED_HEIGHT;
  }

  get text() {
    return this.#editor.text;
  }

  set text(text) {
    this.#editor.text = text;
  }

  /** Called when something other than the edits has changed. */
  refresh() {
    this.#editor.tell();
  }

  /** Called when the node is added to a graph, possibly once more. key: see kept.js. */
  recall(key) {
    this.#editor.recall(recall(key));
    this.#refresh();
  }

  /** Shows the result of a run: `layer_panel[0]` of the node's ui. */
  show(payload) {
    if (payload === this.#payload) return;
    this.#payload = payload;
    this.#load();
  }

  /** Loads the layers' pixels, once the panel is open. */
  async #load() {
    const payload = this.#payload;
    if (!payload || !this.open || payload === this.#loaded) return;
    this.#loaded = payload;
    try {
      const document = await load(payload, this.#viewUrl);
      if (payload !== this.#loaded) return;
      this.#failure = "";
      this.#editor.show(document);
    } catch (error) {
      this.#failure = error.message;
      this.#refresh();
    }
  }

  #key(event) {
    // Otherwise the page would delete the node.
    if (["Delete", "Backspace"].includes(event.key)) event.stopPropagation();
    // The page handles undo and redo itself, except when an input has the focus.
    const key = event.key.toLowerCase();
    if (event.target.type !== "range" || !(event.ctrlKey || event.metaKey) || !"zy".includes(key)) return;
    const by = key === "y" || event.shiftKey ? 1 : -1;
    if (by < 0 ? this.#editor.history.canUndo : this.#editor.history.canRedo) this.#editor.step(by);
    event.preventDefault();
  }

  #refresh() {
    const { title, badge, undo, redo, reset, notice, empty, inside } = this.#parts;
    const { document, history, problem, solo, stale, text } = this.#editor;
    title.setAttribute("aria-expanded", this.open);
    badge.textContent = stale || problem ? "stale" : solo !== null ? "solo" : text ? "edited" : "";
    badge.classList.toggle("warning", stale || problem !== null);
    undo.disabled = !history.canUndo;
    redo.disabled = !history.canRedo;
    reset.disabled = text === "";
    for (const button of [undo, redo, reset]) button.hidden = !this.open;
    notice.hidden = !this.open || !stale;
    // The layers are shown unedited. A change made now would replace the edits.
    inside.inert = stale;
    const failure = problem ?? this.#failure;
    inside.hidden = !this.open || !document || failure !== "";
    empty.hidden = !this.open || !inside.hidden;
    empty.classList.toggle("warning", failure !== "");
    empty.textContent = failure || `Run the workflow to see the layers here.${text ? " Your edits are kept." : ""}`;
  }
}
