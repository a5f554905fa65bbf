// The list of layers, top layer first: thumbnail, name, eye, brush, solo and lock. Reordered by dragging or with the keyboard.

import { icon, iconButton, make } from "./dom.js";
import { chosenLayers, withToggled } from "./redraw.js";
import { rename } from "./rename.js";

const THUMB = 32;
const STARTS_AFTER = 4;
const STEPS = { ArrowUp: 1, ArrowDown: -1 };
const KEYS = "Double-click or F2 renames it, Up and Down select a layer, Alt+Up and Alt+Down move it, Space hides it, Delete " +
  "deletes it.";
const thumbs = new WeakMap();

export class LayerList {
  #editor;
  #redraw;
  #drag = null;
  #shown = "";
  #revealed = "";

  /** redraw: which layers are redrawn, see Panel; null on a node that redraws none. */
  constructor(editor, redraw) {
    this.#editor = editor;
    this.#redraw = redraw;
    this.element = make("ul", {
      class: "list", "aria-label": "Layers, top layer first", "data-capture-wheel": "true", onkeydown: (event) => this.#key(event),
      onpointerdown: (event) => this.#down(event), onpointermove: (event) => this.#move(event),
      onpointerup: () => this.#up(true), onpointercancel: () => this.#up(false),
      ondblclick: (event) => {
        event.stopPropagation();
        this.#rename(event.target.closest(".pick"));
      },
    });
    editor.watch(() => this.#refresh());
  }

  #refresh() {
    const { layers, selected, solo, document: from } = this.#editor;
    const rows = layers.map((layer) => ({ layer, selected: layer.index === selected, solo: layer.index === solo,
      brush: this.#brush(layer.index) }));
    // Moving a layer on the stage changes nothing here. Rows that are not replaced keep the focus and the pointer.
    const now = JSON.stringify([from?.madeFor, ...rows.map(({ layer: { index, name, opacity, blend_mode, locked, visible }, ...row }) =>
      [index, name, opacity, blend_mode, locked, visible, row.selected, row.solo, row.brush])]);
    if (now === this.#shown) return;
    this.#shown = now;
    const focus = document.activeElement?.dataset?.focus;
    const had = this.element.contains(document.activeElement);
    this.element.replaceChildren(...rows.map((row) => this.#row(row)).reverse());
    // The focus of a deleted layer goes to the one selected now. Without a focus, Delete would delete the node.
    const next = this.element.querySelector(`[data-focus="${focus}"]`) ?? this.element.querySelector(".selected .pick");
    if (had) next?.focus({ preventScroll: true });
    const reveal = `${selected} ${layers.findIndex((layer) => layer.index === selected)}`;
    if (reveal !== this.#revealed) this.#reveal();
    this.#revealed = reveal;
  }

  /** Scrolls to the selected row. Not with scrollIntoView, which would also scroll the page. */
  #reveal() {
    const row = this.element.querySelector(".selected");
    if (!row) return;
    const { scrollTop, clientHeight } = this.element;
    this.element.scrollTop = Math.min(Math.max(scrollTop, row.offsetTop + row.offsetHeight - clientHeight), row.offsetTop);
  }

  /** The state of a row's brush: "on", "off", "fixed" if it is always on, or null if the row has no brush. */
  #brush(index) {
    if (!this.#redraw || !this.#editor.document || !(index in this.#editor.document.layers)) return null;
    const { layers } = this.#editor.document;
    if (index === this.#redraw.added(layers.length)) return "fixed";
    return chosenLayers(this.#redraw.text, layers).numbers.has(index) ? "on" : "off";
  }

  #brushButton(index, name, brush, toggle) {
    const label = brush === "fixed" ? `${name} is added by this node` : brush === "on" ? `Keep ${name} at the next run`
      : `Redraw ${name} at the next run`;
    const button = toggle("brush", "brush", label, brush !== "off", () => {
      this.#redraw.text = withToggled(this.#redraw.text, this.#editor.document.layers, index);
    });
    button.disabled = brush === "fixed" || this.#redraw.linked;
    button.setAttribute("aria-pressed", brush !== "off");
    return button;
  }

  #row({ layer, selected, solo, brush }) {
    const { index, name, locked, visible } = layer;
    const editor = this.#editor;
    const toggle = (kind, picture, label, on, act) => {
      const button = iconButton(picture, label, act);
      button.dataset.focus = `${kind} ${index}`;
      button.classList.add(kind);
      button.classList.toggle("on", on);
      return button;
    };
    const pick = make("button", {
      type: "button", class: "pick", "aria-pressed": selected, "data-focus": `pick ${index}`, onclick: () => editor.select(index),
      title: `${name}. ${KEYS}`,
    }, thumbnail(layer), make("span", { class: "name" }, name, make("small", {}, told(layer))));
    return make("li", { class: `row${selected ? " selected" : ""}${visible ? "" : " off"}`, "data-index": index },
      // A button, because browsers would otherwise treat a touch here as one on the eye next to it.
      make("button", { type: "button", class: "grip", tabindex: -1, "aria-hidden": "true" }, icon("grip")),
      toggle("eye", visible ? "shown" : "hidden", `${visible ? "Hide" : "Show"} ${name}`, visible,
        () => editor.set(index, { visible: !visible })),
      pick,
      ...brush === null ? [] : [this.#brushButton(index, name, brush, toggle)],
      toggle("solo", "solo", solo ? "Show all layers" : `Show only ${name} in the panel`, solo, () => editor.toggleSolo(index)),
      toggle("lock", locked ? "locked" : "free", `${locked ? "Unlock" : "Lock"} ${name}`, locked,
        () => editor.set(index, { locked: !locked })));
  }

  #key(event) {
    const row = event.target.closest(".row");
    if (!row || !event.target.classList.contains("pick") || event.ctrlKey || event.metaKey) return;
    const index = Number(row.dataset.index);
    const layers = this.#editor.layers;
    const place = layers.findIndex((layer) => layer.index === index);
    if (event.key in STEPS && event.altKey) this.#editor.reorder(index, place + STEPS[event.key]);
    else if (event.key in STEPS) {
      const next = layers[place + STEPS[event.key]];
      if (next) this.element.querySelector(`[data-focus="pick ${next.index}"]`).focus();
      if (next) this.#editor.select(next.index);
    } else if (event.key === " ") row.querySelector(".eye").click();
    else if (event.key === "F2") this.#rename(event.target);
    else if (event.key === "Delete" || event.key === "Backspace") this.#remove(index);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #rename(pick) {
    if (!pick) return;
    const row = pick.closest(".row");
    const index = Number(row.dataset.index);
    const { name } = this.#editor.layers.find((layer) => layer.index === index);
    rename(row, name, (given) => {
      if (given) this.#editor.set(index, { name: given });
    }, () => this.element.querySelector(`[data-focus="pick ${index}"]`)?.focus({ preventScroll: true }));
  }

  #remove(index) {
    this.#editor.select(index);
    if (this.#editor.canRemove) this.#editor.remove();
  }

  // Touch drags by the grip only, so that it can scroll the list elsewhere. A mouse drags by the whole row.
  #down(event) {
    const row = event.target.closest(".row");
    const hold = event.target.closest(event.pointerType === "mouse" ? ".grip, .pick" : ".grip");
    if (!row || !hold || event.button !== 0 || this.#drag) return;
    this.#drag = { row, from: event.clientY, pointer: event.pointerId, place: null };
  }

  #move(event) {
    const drag = this.#drag;
    if (!drag || event.pointerId !== drag.pointer) return;
    if (drag.place === null && Math.abs(event.clientY - drag.from) < STARTS_AFTER) return;
    if (drag.place === null) this.element.setPointerCapture(event.pointerId);
    const rows = [...this.element.children];
    const above = rows.filter((row) => row !== drag.row && event.clientY > middle(row)).length;
    drag.place = rows.length - 1 - above;
    drag.row.classList.add("dragged");
    const others = rows.filter((row) => row !== drag.row);
    rows.forEach((row) => row.classList.remove("before", "after"));
    if (above < others.length) others[above].classList.add("before");
    else others.at(-1)?.classList.add("after");
  }

  #up(done) {
    const drag = this.#drag;
    this.#drag = null;
    if (!drag || drag.place === null) return;
    this.#shown = "";
    const index = Number(drag.row.dataset.index);
    this.#editor.select(index);
    if (done) this.#editor.reorder(index, drag.place);
  }
}

function middle(row) {
  const box = row.getBoundingClientRect();
  return (box.top + box.bottom) / 2;
}

/** The layer's blend mode and opacity as a short text, "" if normal and opaque. */
function told({ opacity, blend_mode }) {
  return [blend_mode === "normal" ? "" : blend_mode.replaceAll("-", " "), opacity === 1 ? "" : `${Math.round(opacity * 100)}%`]
    .filter(Boolean).join(" · ");
}

function thumbnail({ pixels }) {
  if (!thumbs.has(pixels)) thumbs.set(pixels, drawThumb(pixels));
  const canvas = make("canvas", { class: "thumb", width: 2 * THUMB, height: 2 * THUMB, "aria-hidden": "true" });
  canvas.getContext("2d").drawImage(thumbs.get(pixels), 0, 0);
  return canvas;
}

/** The layer, scaled to fit a square. */
function drawThumb({ width, height, rgb, coverage }) {
  const picture = new ImageData(width, height);
  for (let pixel = 0; pixel < coverage.length; pixel++) {
    picture.data.set(rgb.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
    picture.data[4 * pixel + 3] = coverage[pixel];
  }
  const whole = new OffscreenCanvas(width, height);
  whole.getContext("2d").putImageData(picture, 0, 0);
  const small = new OffscreenCanvas(2 * THUMB, 2 * THUMB);
  const context = small.getContext("2d");
  const scale = (2 * THUMB) / Math.max(width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(whole, THUMB - (width * scale) / 2, THUMB - (height * scale) / 2, width * scale, height * scale);
  return small;
}
