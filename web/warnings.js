// Shows the warnings of the pack's nodes on the nodes, until a run no longer has them.

import { app } from "../../scripts/app.js";
import { followRuns } from "./last_run.js";
import { addStyle, make } from "./layers/dom.js";

const NAME = "warnings";
const MARGIN = 10;
const LINE_HEIGHT = 16;
const PADDING = 12;
const PIXELS_PER_CHARACTER = 6;

app.registerExtension({
  name: "LayerDiff.Warnings",

  setup: () => addStyle("./warnings.css", import.meta.url),

  nodeCreated(node) {
    if (node.comfyClass.startsWith("LayerDiff")) followRuns(node, ({ warnings }) => show(node, warnings?.[0] ?? []));
  },
});

function show(node, texts) {
  const before = node.widgets?.find(({ name }) => name === NAME);
  if (before?.element.textContent === texts.join("")) return;
  if (before) node.removeWidget(before);
  if (texts.length) add(node, texts);
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
  node.setDirtyCanvas(true, true);
}

function add(node, texts) {
  const element = make("div", { class: "layerdiff-warnings", role: "status" }, ...texts.map((text) => make("p", {}, text)));
  const characters = Math.max(20, (node.size[0] - 2 * MARGIN) / PIXELS_PER_CHARACTER);
  const height = texts.reduce((sum, text) => sum + Math.ceil(text.length / characters) * LINE_HEIGHT + PADDING, 0);
  element.style.minHeight = `${height}px`;
  const widget = node.addDOMWidget(NAME, "layerdiff_warnings", element, {
    serialize: false, margin: MARGIN, hideOnZoom: false,
    getMinHeight: () => height + 2 * MARGIN, getMaxHeight: () => height + 2 * MARGIN,
  });
  widget.serialize = false;
}
