// Labels for the text boxes of the pack's nodes. The canvas shows the name of a box only while it is empty and not linked.

import { app } from "../../scripts/app.js";
import { addStyle, make } from "./layers/dom.js";

const KIND = "customtext";
const LEFT = 20;
const LEAST_HEIGHT = 84;

app.registerExtension({
  name: "LayerDiff.Labels",

  setup: () => addStyle("./labels.css", import.meta.url),

  nodeCreated(node) {
    if (!node.comfyClass.startsWith("LayerDiff")) return;
    const boxes = node.widgets?.filter(({ type }) => type === KIND) ?? [];
    boxes.forEach(labelled);
    if (boxes.length) nameLinked(node, boxes);
  },
});

/** Puts the label above the text box. Nodes 2.0 draws its own boxes and labels. */
function labelled(widget) {
  const box = widget.element;
  widget.element = make("div", { class: "layerdiff-text" }, make("label", {}, widget.label ?? widget.name), box);
  // Three lines, one for each layer of the example.
  widget.options.getMinHeight ??= () => LEAST_HEIGHT;
}

function nameLinked(node, boxes) {
  const before = node.onDrawForeground;
  node.onDrawForeground = (context, ...more) => {
    before?.call(node, context, ...more);
    if (node.flags.collapsed || LiteGraph.vueNodesMode) return;
    for (const { name, label } of boxes) {
      const index = node.inputs.findIndex(({ widget, link }) => widget?.name === name && link !== null);
      if (index < 0) continue;
      const [, y] = node.getConnectionPos(true, index);
      context.fillStyle = LiteGraph.NODE_TEXT_COLOR;
      context.textAlign = "left";
      context.fillText(label ?? name, LEFT, y - node.pos[1] + 5);
    }
  };
}
