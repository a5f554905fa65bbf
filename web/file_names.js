// Dates and other nodes' values in the names of saved files (%date:yyyy-MM-dd%, %KSampler.seed%), as in ComfyUI's Save Image.

import { app } from "../../scripts/app.js";

const NODES = ["LayerDiffSaveLayers", "LayerDiffExportLayers"];

app.registerExtension({
  name: "LayerDiff.FileNames",

  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const widget = node.widgets.find(({ name }) => name === "filename_prefix");
    widget.serializeValue = () => window.comfyAPI.utils.applyTextReplacements(app.graph, widget.value);
  },
});
