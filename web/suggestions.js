// Makes the page suggest the pack's nodes, most likely first, when a link of the pack's types is dropped on the canvas.

import { app } from "../../scripts/app.js";

// By default the page lists nodes in order of registration, with ComfyUI's own and other packs' nodes before this pack's.
const AFTER = {
  LAYERS: ["CompositeLayers", "SetLayer", "SaveLayers", "ExportLayers", "PreviewLayers", "HealSeams", "GetLayer", "MergeLayers",
    "EncodeLayers", "KeepLayers"],
  LAYER_ENHANCER: ["EncodePrompts"],
};
const BEFORE = {
  LAYERS: ["DecodeLayers", "ImportLayers", "SetLayer", "CompositeLayers", "ImagesToLayers", "LayersFromMasks", "MergeLayers",
    "HealSeams"],
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
    // The first entry is the Reroute node that a middle click on a slot adds. The page has no list for a type that is only
    // taken by optional inputs.
    const [reroute, ...others] = lists[type] ?? ["Reroute"];
    lists[type] = [...new Set([reroute, ...names.map((name) => `LayerDiff${name}`), ...others])].slice(0, number);
  }
}
