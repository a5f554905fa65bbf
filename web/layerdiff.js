// The pack's entry point in the page: replaces the text widget `edits` of the nodes that have one with the layer panel.

import { app } from "../../scripts/app.js";
import { addStyle } from "./layers/dom.js";
import { Panel } from "./layers/panel.js";
import { followRuns } from "./last_run.js";
// Imported first, so that the exported files are listed above the panel.
import "./results.js";

const WIDGET = "edits";
const REDRAW = "redraw";
const ADD = "add_at";
const OPEN = "layer_panel_open";
const LEAST_WIDTH = 300;
const MARGIN = 10;
const TEXT_HEIGHT = 60;
const viewUrl = (file) => app.api.apiURL(`/view?${new URLSearchParams(file)}`);

app.registerExtension({
  name: "LayerDiff.LayerPanel",

  setup: () => addStyle("./layers/panel.css", import.meta.url),

  nodeCreated(node) {
    const text = node.widgets?.find((widget) => widget.name === WIDGET);
    if (text && node.comfyClass.startsWith("LayerDiff")) addPanel(node, text);
  },
});

function addPanel(node, text) {
  const redraw = redrawing(node, () => panel.refresh());
  const panel = new Panel({
    viewUrl,
    redraw,
    write(edits) {
      app.canvas.emitBeforeChange();
      widget.value = edits;
      app.canvas.emitAfterChange();
    },
    toggled(open) {
      app.canvas.emitBeforeChange();
      const height = node.size[1] - panel.height;
      node.setProperty(OPEN, open);
      node.setSize([Math.max(node.size[0], LEAST_WIDTH), Math.max(node.computeSize()[1], height + panel.height)]);
      node.setDirtyCanvas(true, true);
      app.canvas.emitAfterChange();
    },
  });
  node.removeWidget(text);
  // Extra node height goes to the panel. Without a maximum, a text box would take half of it.
  for (const { type, options } of node.widgets) if (type === "customtext") options.getMaxHeight = () => TEXT_HEIGHT;
  const widget = node.addDOMWidget(WIDGET, "layerdiff_panel", panel.element, {
    getValue: () => panel.text,
    setValue: (edits) => { panel.text = edits; },
    getMinHeight: () => panel.height + 2 * MARGIN,
    margin: MARGIN,
    hideOnZoom: false,
  });
  node.onPropertyChanged = chained(node.onPropertyChanged, (name, value) => {
    if (name === OPEN) panel.open = value;
  });
  node.onAdded = chained(node.onAdded, (graph) => panel.recall(`${graph.id}/${node.id}`));
  node.onConfigure = chained(node.onConfigure, () => { panel.open = Boolean(node.properties[OPEN]); });
  followRuns(node, (output) => { if (output.layer_panel) panel.show(output.layer_panel[0]); }, widget);
  passOn(panel.element);
}

/** Gives the panel access to the layers that the node redraws; null if it redraws none. changed(): called when they change. */
function redrawing(node, changed) {
  const [which, added] = [REDRAW, ADD].map((name) => node.widgets.find((widget) => widget.name === name));
  if (!which) return null;
  for (const widget of [which, added]) widget.callback = chained(widget.callback, changed);
  node.onConnectionsChange = chained(node.onConnectionsChange, changed);
  return {
    get text() { return which.value; },
    set text(text) {
      app.canvas.emitBeforeChange();
      which.value = text;
      which.callback(text);
      app.canvas.emitAfterChange();
      node.setDirtyCanvas(true, true);
    },
    get linked() { return node.inputs.some(({ widget, link }) => widget?.name === REDRAW && link !== null); },
    added: (count) => (added.value < 0 ? null : Math.min(added.value, count - 1)),
  };
}

/** A handler that calls the previous one and then this one. */
function chained(before, then) {
  return function (...values) {
    const result = before?.apply(this, values);
    then(...values);
    return result;
  };
}

/** Passes the wheel and the middle button on to the page's canvas, as the page's own widgets do. */
function passOn(element) {
  element.addEventListener("wheel", (event) => {
    if (event.defaultPrevented || LiteGraph.vueNodesMode) return;
    const list = event.target.closest(".list");
    if (list && list.scrollHeight > list.clientHeight && !event.ctrlKey) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  });
  const middle = (event) => event.button === 1 || event.buttons & 4;
  element.addEventListener("pointerdown", (event) => middle(event) && app.canvas.processMouseDown(event));
  element.addEventListener("pointermove", (event) => middle(event) && app.canvas.processMouseMove(event));
  element.addEventListener("pointerup", (event) => middle(event) && app.canvas.processMouseUp(event));
}
