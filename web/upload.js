// Uploads layered files to the input folder: with the button of the import node, or by dropping them on it.

import { app } from "../../scripts/app.js";
import { ACCEPTED, droppedFiles, layeredPart } from "./layered_files.js";

export const NODE = "LayerDiffImportLayers";
const TITLE = "Import Layers from File";
const PATIENCE = 700;
export const NOTHING = "No layered file found. Choose a .psd, .psb or .ora file, or a layers.json together with its PNG files.";

app.registerExtension({
  name: "LayerDiff.Upload",

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    node.addWidget("button", "choose file to upload", null, () => choose((files) => take(node, files)), { serialize: false });
    node.onDragOver = (event) => Boolean(event.dataTransfer?.types?.includes("Files"));
    node.onDragDrop = async (event) => take(node, await droppedFiles(event.dataTransfer));
  },
});

function choose(then) {
  const input = document.createElement("input");
  Object.assign(input, { type: "file", multiple: true, accept: ACCEPTED, onchange: () => input.files.length && then([...input.files]) });
  input.click();
}

/** Uploads the layered file among `files` and selects it in the import node. Returns whether there was one. */
export async function take(node, files) {
  const part = layeredPart(files);
  if (!part) {
    say(NOTHING);
    return false;
  }
  const telling = tellLater(part);
  // The images of a layers.json need a folder of their own to keep their names.
  const subfolder = part.files.length > 1 ? `layers_${new Date().toISOString().replace(/\D/g, "").slice(0, 17)}` : "";
  try {
    let main;
    for (const file of part.files) {
      const place = await upload(file, subfolder);
      if (file === part.main) main = place;
    }
    select(node, main);
  } catch (error) {
    say(error.message);
  } finally {
    clearTimeout(telling);
  }
  return true;
}

/** Shows a message once an upload has taken a while; to be given to clearTimeout when it is over. */
function tellLater({ main, files }) {
  const megabytes = files.reduce((sum, file) => sum + file.size, 0) / 1e6;
  const detail = `Uploading ${main.name} (${megabytes.toFixed(1)} MB) ...`;
  // Not every page can take a message away again.
  return setTimeout(() => app.extensionManager.toast.add({ severity: "info", summary: TITLE, detail, life: 6000 }), PATIENCE);
}

/** Uploads a file to the input folder. Returns the path under which ComfyUI stores it. */
async function upload(file, into) {
  const body = new FormData();
  body.append("image", file);
  body.append("subfolder", into);
  const answer = await app.api.fetchApi("/upload/image", { method: "POST", body });
  if (!answer.ok) throw new Error(`${file.name} could not be uploaded: ${answer.status} ${answer.statusText}`);
  const { name, subfolder } = await answer.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

function select(node, path) {
  const combo = node.widgets.find((widget) => widget.name === "file");
  if (!combo.options.values.includes(path)) combo.options.values.push(path);
  combo.value = path;
  combo.callback?.(path);
  node.setDirtyCanvas(true, true);
}

export function say(detail) {
  app.extensionManager.toast.add({ severity: "error", summary: TITLE, detail, life: 8000 });
}
