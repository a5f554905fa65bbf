// The page's side of the pack: puts the layer panel in the place of the text widget `edits` of the nodes that have one.

import { app } from "../../scripts/app.js";
import { make } from "./layers/dom.js";
import { Panel } from "./layers/panel.js";
import { lastOutputs, withExecutionIds } from "./last_run.js";

const WIDGET = "edits";
const OPEN = "layer_panel_open";
const LEAST_WIDTH = 300;
const MARGIN = 10;
const TEXT_HEIGHT = 60;
const viewUrl = (file) => app.api.apiURL(`/view?${new URLSearchParams(file)}`);

app.registerExtension({
  name: "LayerDiff.LayerPanel",

  setup() {
    document.head.append(make("link", { rel: "stylesheet", href: new URL("./layers/panel.css", import.meta.url).href }));
  },

  nodeCreated(node) {
    const text = node.widgets?.find((widget) => widget.name === WIDGET);
    if (text && node.comfyClass.startsWith("LayerDiff")) addPanel(node, text);
  },

  /** The page made its nodes anew. */
  afterConfigureGraph() {
    // Where the page changes to another workflow it brings that one's outputs after this call.
    setTimeout(restore);
  },
});

/** Give the panels the layers of their nodes' last runs: as the page has them or, where it was opened anew, the server. */
async function restore() {
  const graph = app.rootGraph;
  const panels = [...withExecutionIds(graph)].filter(([, node]) => node.showLayers);
  for (const [, node] of panels) {
    node.mountPanel();
    node.showLayers(app.nodeOutputs[locator(node)]);
  }
  if (panels.every(([, node]) => node.hasLayers())) return;
  const outputs = await lastOutputs(app.api, graph.id);
  // A run that has ended since tells more.
  for (const [id, node] of panels) if (!node.hasLayers()) node.showLayers(outputs[id]);
}

/** The name under which the page keeps a node's outputs. */
function locator(node) {
  return node.graph.isRootGraph ? String(node.id) : `${node.graph.id}:${node.id}`;
}

function addPanel(node, text) {
  const panel = new Panel({
    viewUrl,
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
  // The node's height is the panel's; a text box would take half of it.
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
  node.onConfigure = chained(node.onConfigure, () => { panel.open = Boolean(node.properties[OPEN]); });
  node.hasLayers = () => panel.hasLayers;
  node.mountPanel = () => {
    // Nodes 2.0 goes on showing the element of the node that had this one's id before.
    const shown = node.graph === app.canvas.graph && document.querySelector(`[data-node-id="${node.id}"] .layerdiff-panel`);
    if (shown && shown !== panel.element) shown.replaceWith(panel.element);
  };
  node.showLayers = (output) => { if (output?.layer_panel) panel.show(output.layer_panel[0]); };
  node.onExecuted = chained(node.onExecuted, node.showLayers);
  passOn(panel.element);
}

/** What the node did before, and then this. */
function chained(before, then) {
  return function (...values) {
    const result = before?.apply(this, values);
    then(...values);
    return result;
  };
}

/** The wheel and the middle button move the page's canvas, as they do over its own widgets. */
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
