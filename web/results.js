// Lists exported files on their node, with name, size and a download link.

import { app } from "../../scripts/app.js";
import { followRuns } from "./last_run.js";
import { addStyle, make } from "./layers/dom.js";

const NODE = "LayerDiffExportLayers";
const ROW_HEIGHT = 26;
const MOST_ROWS = 5;
const MARGIN = 10;
const UNITS = ["bytes", "kB", "MB", "GB"];

app.registerExtension({
  name: "LayerDiff.Results",

  setup: () => addStyle("./results.css", import.meta.url),

  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const list = make("ul", { class: "layerdiff-results" });
    const height = () => Math.min(list.childElementCount, MOST_ROWS) * ROW_HEIGHT;
    const widget = node.addDOMWidget("results", "layerdiff_results", list, {
      serialize: false, margin: MARGIN, hideOnZoom: false,
      getMinHeight: () => (height() ? height() + 2 * MARGIN : 0),
      getMaxHeight: () => (height() ? height() + 2 * MARGIN : 0),
    });
    widget.serialize = false;
    followRuns(node, ({ files }) => {
      list.replaceChildren(...(files ?? []).map(row));
      list.style.minHeight = `${height()}px`;
      node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
      node.setDirtyCanvas(true, true);
    }, widget);
  },
});

function row({ size, ...file }) {
  const address = app.api.apiURL(`/view?${new URLSearchParams(file)}`);
  const place = file.subfolder ? `output/${file.subfolder}/${file.filename}` : `output/${file.filename}`;
  return make("li", { title: place }, make("span", { class: "name" }, file.filename),
    make("span", { class: "size" }, sizeText(size)),
    make("a", { href: address, download: file.filename, "aria-label": `Download ${file.filename}` }, "Download"));
}

function sizeText(bytes) {
  const power = bytes ? Math.min(Math.floor(Math.log10(bytes) / 3), UNITS.length - 1) : 0;
  return `${(bytes / 1000 ** power).toFixed(power ? 1 : 0)} ${UNITS[power]}`;
}
