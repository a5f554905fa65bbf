// The selected layer's properties: blend mode, opacity, and where it lies in numbers.

import { MODES } from "./composite.js";
import { make } from "./dom.js";

const NUMBERS = [
  { field: "right", label: "Move right (pixels)", sign: "X", of: 1, neutral: 0, step: 1 },
  { field: "down", label: "Move down (pixels)", sign: "Y", of: 1, neutral: 0, step: 1 },
  { field: "scale", label: "Scale (percent)", sign: "%", of: 100, neutral: 1, step: 1 },
  { field: "rotation", label: "Rotate clockwise (degrees)", sign: "°", of: 1, neutral: 0, step: 1 },
];

export class Properties {
  #editor;
  #mode;
  #opacity;
  #percent;
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
    this.#numbers = NUMBERS.map(({ label, sign, step, ...number }) => {
      const input = make("input", { type: "number", step, title: label, "aria-label": label });
      input.addEventListener("change", () => this.#setNumber(number, input));
      return { ...number, input, element: make("label", { class: "number" }, make("span", { "aria-hidden": "true" }, sign), input) };
    });
    this.element = make("div", { class: "properties" },
      make("div", { class: "line" }, this.#mode, this.#opacity, this.#percent),
      make("div", { class: "line" }, ...this.#numbers.map(({ element }) => element)));
    editor.watch(() => this.#refresh());
    this.#refresh();
  }

  #set(fields, how) {
    this.#editor.set(this.#editor.selected, fields, how);
  }

  #setNumber({ field, of, neutral }, input) {
    const value = input.value === "" ? neutral : input.valueAsNumber / of;
    if (field === "right" || field === "down") this.#set({ [field]: Math.round(value) });
    else this.#editor.transform(this.#editor.selected, { [field]: value });
  }

  #refresh() {
    const layer = this.#editor.layer;
    const disabled = !layer || layer.locked;
    for (const control of [this.#mode, this.#opacity, ...this.#numbers.map(({ input }) => input)]) control.disabled = disabled;
    if (!layer) return;
    const changes = this.#editor.changes(layer.index);
    this.#mode.value = layer.blend_mode;
    this.#opacity.value = Math.round(layer.opacity * 100);
    this.#percent.textContent = `${Math.round(layer.opacity * 100)}%`;
    for (const { field, of, neutral, input } of this.#numbers) {
      input.value = Math.round((changes[field] ?? neutral) * of * 10) / 10;
    }
  }
}
