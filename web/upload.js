// Brings layered files from the user's computer into the input folder: by the button of the import node, or dropped on it.

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

/** Upload what is layered among the files and set the import node to it; whether there was any. */
export async function take(node, files) {
  const part = layeredPart(files);
  if (!part) {
    say(NOTHING);
    return false;
  }
  // Pictures of a layers.json keep their names only in a folder of their own.
  const told = tellUpload(part);
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
    told.end();
  }
  return true;
}

/** Say that an upload is going on, once it has taken a while; `end` takes it away again. */
function tellUpload({ main, files }) {
  const megabytes = files.reduce((sum, file) => sum + file.size, 0) / 1e6;
  const message = { severity: "info", summary: TITLE, detail: `Uploading ${main.name} (${megabytes.toFixed(1)} MB) ...` };
  const { toast } = app.extensionManager;
  const timer = setTimeout(() => toast.add(message), PATIENCE);
  return {
    end() {
      clearTimeout(timer);
      toast.remove(message);
    },
  };
}

/** Send a file to the input folder; the path under which ComfyUI keeps it. */
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
