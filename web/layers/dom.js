// Elements and icons for the layer panel.

const SVG = "http://www.w3.org/2000/svg";

// SVG paths on a grid of 16 x 16, drawn with round strokes.
const ICONS = {
  layers: "M8 2l6 3.5L8 9 2 5.5zM2 9l6 3.5L14 9",
  chevron: "M6 4l4 4-4 4",
  undo: "M5.5 3.5L3 6l2.5 2.5M3 6h6.5a3.5 3.5 0 0 1 0 7H6",
  redo: "M10.5 3.5L13 6l-2.5 2.5M13 6H6.5a3.5 3.5 0 0 0 0 7H10",
  reset: "M3.2 5A5.6 5.6 0 1 1 2.4 8.5M3 2v3.2h3.2",
  grip: "M6 4h.01M10 4h.01M6 8h.01M10 8h.01M6 12h.01M10 12h.01",
  shown: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8zM8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  hidden: "M2.5 2.5l11 11M6.6 3.7A6 6 0 0 1 8 3.5C12 3.5 14.5 8 14.5 8a12 12 0 0 1-1.8 2.3M4 5a12 12 0 0 0-2.5 3S4 12.5 8 12.5a6 6 0 0 0 3.2-.9",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  delete: "M2.5 4.5h11M6 4.5v-2h4v2M4 4.5l.7 9h6.6l.7-9M6.8 7l.2 4M9.2 7L9 11",
  solo: "M2 5V2h3M11 2h3v3M14 11v3h-3M5 14H2v-3M8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  locked: "M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 5 0v2.5",
  brush: "M13.5 2.5L7 9M7 9a2.6 2.6 0 0 0-3.4 1.6C3.2 12 3 13 2 13.5c2.2.6 6.2.2 6.6-2.7M5.9 9.3l1.5 1.5",
  free: "M3.5 7.5h9v6h-9zM5.5 7.5V5a2.5 2.5 0 0 1 4.8-1",
};

/** Creates an element. settings: attributes and listeners ("onclick"). children: elements or texts. */
export function make(tag, settings = {}, ...children) {
  return fill(document.createElement(tag), settings, children);
}

/** Adds a style sheet to the page. file: its path relative to the calling module. module: that module's import.meta.url. */
export function addStyle(file, module) {
  document.head.append(make("link", { rel: "stylesheet", href: new URL(file, module).href }));
}

/** Creates an SVG element in the same way. */
export function draw(tag, settings = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), settings, children);
}

function fill(element, settings, children) {
  for (const [name, value] of Object.entries(settings)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** One of the icons, in the colour of the surrounding text. */
export function icon(name) {
  return draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, draw("path", { d: ICONS[name] }));
}

/** A button with an icon only. The label is its tooltip, and what screen readers read out. */
export function iconButton(name, label, onclick) {
  return make("button", { type: "button", class: "icon", title: label, "aria-label": label, onclick }, icon(name));
}
