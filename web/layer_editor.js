// Gives ComfyUI's own layer editor the layers alone: it opens whatever pictures the page keeps for a node.

import { app } from "../../scripts/app.js";
import { followRuns, locator } from "./last_run.js";

const WITH_PANEL = "LayerDiffDecodeLayers";
const NODES = [WITH_PANEL, "LayerDiffSaveLayers"];

app.registerExtension({
  name: "LayerDiff.LayerEditor",

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const inPanel = node.comfyClass === WITH_PANEL;
    // The panel shows them already. Only Nodes 2.0 can hide a node's pictures, and there alone is the editor.
    if (inPanel) node.hideOutputImages = true;
    followRuns(node, (output) => {
      const [images] = output.layer_pictures ?? [];
      if (images && (LiteGraph.vueNodesMode || !inPanel)) app.nodeOutputs[locator(node)] = { ...output, images };
    });
  },
});
