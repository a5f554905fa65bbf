// Makes ComfyUI's own layer editor open only the layers, since it opens all images that the page stores for a node.

import { app } from "../../scripts/app.js";
import { followRuns, locator } from "./last_run.js";

const WITH_PANEL = "LayerDiffDecodeLayers";
const NODES = [WITH_PANEL, "LayerDiffSaveLayers"];

app.registerExtension({
  name: "LayerDiff.LayerEditor",

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const inPanel = node.comfyClass === WITH_PANEL;
    // The panel already shows the layers. Only Nodes 2.0 can hide a node's images, and only Nodes 2.0 has the editor.
    if (inPanel) node.hideOutputImages = true;
    followRuns(node, (output) => {
      const [images] = output.layer_pictures ?? [];
      if (images && (LiteGraph.vueNodesMode || !inPanel)) app.nodeOutputs[locator(node)] = { ...output, images };
    });
  },
});
