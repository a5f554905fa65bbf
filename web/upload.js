// Brings a layered file from the user's computer into the input folder: by the button of the import node, or dropped on it.

import { app } from "../../scripts/app.js";

const NODE = "LayerDiffImportLayers";
const ENDINGS = [".psd", ".psb", ".ora"];

app.registerExtension({
  name: "LayerDiff.Upload",

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    node.addWidget("button", "choose file to upload", null, () => choose((file) => upload(node, file)), { serialize: false });
    node.onDragOver = (event) => Boolean(event.dataTransfer?.types?.includes("Files"));
    node.onDragDrop = async (event) => {
      const file = [...event.dataTransfer.files].find(isLayered);
      if (file) await upload(node, file);
      return Boolean(file);
    };
  },
});

function isLayered(file) {
  return ENDINGS.some((ending) => file.name.toLowerCase().endsWith(ending));
}

function choose(then) {
  const input = document.createElement("input");
  Object.assign(input, { type: "file", accept: ENDINGS.join(","), onchange: () => input.files[0] && then(input.files[0]) });
  input.click();
}

/** Sends the file to the host, which says under which name it keeps it, and sets the node to it. */
async function upload(node, file) {
  const body = new FormData();
  body.append("image", file);
  const answer = await app.api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) {
    app.extensionManager.toast.add({ severity: "error", summary: `${file.name} was not uploaded`, detail: answer.statusText });
    return;
  }
  const { name, subfolder } = await answer.json();
  const path = subfolder ? `${subfolder}/${name}` : name;
  const combo = node.widgets.find((widget) => widget.name === "file");
  if (!combo.options.values.includes(path)) combo.options.values.push(path);
  combo.value = path;
  combo.callback?.(path);
  node.setDirtyCanvas(true, true);
}
