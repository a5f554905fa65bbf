// What the page's menu suggests where a link of layers is dropped on the canvas: our nodes, the likeliest first.

import { app } from "../../scripts/app.js";

// The page lists nodes in the order in which they were registered, ComfyUI's own and other packs' before ours.
const AFTER = {
  LAYERS: ["CompositeLayers", "SetLayer", "SaveLayers", "ExportLayers", "PreviewLayers", "HealSeams", "EncodeLayers", "KeepLayers"],
  LAYER_ENHANCER: ["EncodePrompts"],
};
const BEFORE = {
  LAYERS: ["DecodeLayers", "ImportLayers", "SetLayer", "CompositeLayers", "HealSeams"],
  LAYER_ENHANCER: ["LoadModel", "ApplyAdapter"],
};

app.registerExtension({
  name: "LayerDiff.Suggestions",

  setup() {
    putFirst(AFTER, LiteGraph.slot_types_default_out);
    putFirst(BEFORE, LiteGraph.slot_types_default_in);
  },
});

function putFirst(ours, lists) {
  const number = app.extensionManager.setting.get("Comfy.NodeSuggestions.number");
  for (const [type, names] of Object.entries(ours)) {
    // The first is the Reroute that a middle click on a slot adds.
    const [reroute, ...others] = lists[type];
    lists[type] = [...new Set([reroute, ...names.map((name) => `LayerDiff${name}`), ...others])].slice(0, number);
  }
}
