// Handles layered files dropped on the canvas: opens the workflow in the file or, if there is none, adds an import node.

import { app } from "../../scripts/app.js";
import { droppedFiles, layeredPart, textIn } from "./layered_files.js";
import { NODE, NOTHING, say, take } from "./upload.js";

// Runs before the page's own listener, which knows only images, audio and JSON and would report that there is no workflow.
document.addEventListener("drop", async (event) => {
  if (!event.dataTransfer?.files.length || nodeAt(event)?.onDragDrop || !mayBeLayered(event.dataTransfer)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const place = [event.canvasX, event.canvasY];
  const files = await droppedFiles(event.dataTransfer);
  const part = layeredPart(files);
  if (!part) return say(NOTHING);
  const { workflow, prompt } = part.files.length === 1 ? await textIn(part.main) : {};
  if (workflow) await app.loadGraphData(JSON.parse(workflow), true, true, nameOf(part.main));
  else if (prompt) app.loadApiJson(JSON.parse(prompt), nameOf(part.main));
  else await importAt(place, files);
}, true);

/** Whether a drop may hold a layered file. The contents of a folder cannot be read before the event is over. */
function mayBeLayered({ files, items }) {
  return layeredPart([...files]) !== null || [...items].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
}

function nodeAt(event) {
  app.canvas.adjustMouseEvent(event);
  return app.canvas.graph.getNodeOnPos(event.canvasX, event.canvasY);
}

function nameOf(file) {
  return file.name.replace(/\.[^.]*$/, "");
}

async function importAt(place, files) {
  app.canvas.emitBeforeChange();
  const node = LiteGraph.createNode(NODE);
  node.pos = place;
  app.canvas.graph.add(node);
  app.canvas.emitAfterChange();
  await take(node, files);
}
