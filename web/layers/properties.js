// The selected layer's properties: blend mode, opacity, position, scale and rotation, and buttons to duplicate or delete it.

import { MODES } from "./composite.js";
import { iconButton, make } from "./dom.js";
import { leftTop } from "./geometry.js";

// Those with an axis are positions on the canvas, the others are fields of the layer's edits.
const NUMBERS = [
  { label: "Left edge of the layer's content (pixels)", sign: "X", axis: 0, field: "right" },
  { label: "Top edge of the layer's content (pixels)", sign: "Y", axis: 1, field: "down" },
  { label: "Scale (percent)", sign: "%", field: "scale", of: 100, neutral: 1 },
  { label: "Rotate clockwise (degrees)", sign: "°", field: "rotation", of: 1, neutral: 0 },
];

export class Properties {
  #editor;
  #mode;
  #opacity;
  #percent;
  #duplicate;
  #remove;
  #numbers;

  constructor(editor) {
    this.#editor = editor;
    this.#mode = make("select", {
      title: "Blend mode", "aria-label": "Blend mode", onchange: () => this.#set({ blend_mode: this.#mode.value }),
    }, ...MODES.map((mode) => make("option", { value: mode }, mode.replaceAll("-", " "))));
    this.#opacity = make("input", {
      type: "range", min: 0, max: 100, step: 1, title: "Opacity", "aria-label": "Opacity",
      oninput: () => this.#set({ opacity: this.#opacity.value / 100 }, { final: false }),
      onchange: () => this.#set({ opacity: this.#opacity.value / 100 }, { tag: "opacity" }),
    });
    this.#percent = make("output", {});
    this.#duplicate = iconButton("copy", "Duplicate layer", () => editor.duplicate());
    this.#remove = iconButton("delete", "Delete layer", () => editor.remove());
    this.#numbers = NUMBERS.map(({ label, sign, ...number }) => {
      const input = make("input", { type: "number", step: 1, title: label, "aria-label": label });
      input.addEventListener("change", () => this.#setNumber(number, input));
      return { ...number, input, element: make("label", { class: "number" }, make("span", { "aria-hidden": "true" }, sign), input) };
    });
    this.element = make("div", { class: "properties" },
      make("div", { class: "line" }, this.#mode, this.#opacity, this.#percent,
        make("span", { class: "buttons" }, this.#duplicate, this.#remove)),
      make("div", { class: "line" }, ...this.#numbers.map(({ element }) => element)));
    editor.watch(() => this.#refresh());
    this.#refresh();
  }

  #set(fields, how) {
    this.#editor.set(this.#editor.selected, fields, how);
  }

  #setNumber({ field, axis, of, neutral }, input) {
    const { layer, selected } = this.#editor;
    if (axis === undefined) {
      this.#editor.transform(selected, { [field]: input.value === "" ? neutral : input.valueAsNumber / of });
    } else if (input.value !== "") {
      const way = Math.round(input.valueAsNumber) - edge(layer, axis);
      this.#set({ [field]: (this.#editor.changes(selected)[field] ?? 0) + way });
    }
    this.#refresh();
  }

  #refresh() {
    const { layer, free, canDuplicate, canRemove } = this.#editor;
    this.#duplicate.disabled = !canDuplicate;
    this.#remove.disabled = !canRemove;
    for (const control of [this.#mode, this.#opacity, ...this.#numbers.map(({ input }) => input)]) control.disabled = !free;
    if (!layer) return;
    const changes = this.#editor.changes(layer.index);
    this.#mode.value = layer.blend_mode;
    this.#opacity.value = Math.round(layer.opacity * 100);
    this.#percent.textContent = `${Math.round(layer.opacity * 100)}%`;
    for (const { field, axis, of, neutral, input } of this.#numbers) {
      input.value = axis === undefined ? Math.round((changes[field] ?? neutral) * of * 10) / 10 : edge(layer, axis);
    }
  }
}

function edge(layer, axis) {
  return Math.round(leftTop(layer)[axis]);
}
