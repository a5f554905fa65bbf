// Restores the results of a node's last run after a page reload. The page forgets them, but ComfyUI's server does not.

import { app } from "../../scripts/app.js";

/** How many jobs of a workflow to request. More than one, since the last may have run only a part; few, since jobs are large. */
const LATEST = 3;
const followers = new WeakMap();
const asked = new Map();

/**
 * Calls show(output) with the ui output of each run of the node and, after the page has recreated the node, with that of
 * its last run. widget: the DOM widget that shows the output, if any.
 */
export function followRuns(node, show, widget) {
  if (!followers.has(node)) {
    followers.set(node, { widgets: [], shows: [], seen: false });
    const before = node.onExecuted;
    node.onExecuted = (...values) => {
      before?.apply(node, values);
      // What the server said before this run is out of date when this workflow is opened again.
      asked.delete(app.rootGraph.id);
      tell(node, values[0]);
    };
  }
  if (widget) followers.get(node).widgets.push(widget);
  followers.get(node).shows.push(show);
}

function tell(node, output) {
  const follower = followers.get(node);
  follower.seen ||= Boolean(output);
  if (output) for (const show of follower.shows) show(output);
}

app.registerExtension({
  name: "LayerDiff.LastRun",

  /** Called when the page has recreated its nodes. */
  afterConfigureGraph() {
    // When the page switches to another workflow, it restores that workflow's outputs after this call.
    setTimeout(restore);
  },
});

async function restore() {
  const graph = app.rootGraph;
  const found = [...withExecutionIds(graph)].filter(([, node]) => followers.has(node));
  for (const [, node] of found) {
    mount(node);
    tell(node, app.nodeOutputs[locator(node)]);
  }
  const unseen = found.filter(([, node]) => !followers.get(node).seen);
  if (!unseen.length) return;
  const outputs = await lastOutputs(graph.id);
  // Meanwhile a newer run may have finished, or another workflow may have been opened.
  for (const [id, node] of unseen) if (node.graph && !followers.get(node).seen) tell(node, outputs[id]);
}

/** Nodes 2.0 keeps showing the elements of the previous node with the same id, so this replaces them. */
function mount(node) {
  if (node.graph !== app.canvas.graph) return;
  for (const { element } of followers.get(node).widgets) {
    const shown = document.querySelector(`[data-node-id="${node.id}"] .${element.classList[0]}`);
    if (shown && shown !== element) shown.replaceWith(element);
  }
}

/** The key under which the page stores a node's outputs. */
export function locator(node) {
  return node.graph.isRootGraph ? String(node.id) : `${node.graph.id}:${node.id}`;
}

/**
 * The latest outputs of a workflow's nodes by execution id ("5", or "12:5" in a subgraph). Requested once, and again after
 * a run: the page recreates its nodes on every undo.
 */
function lastOutputs(workflowId) {
  if (!asked.has(workflowId)) {
    asked.set(workflowId, outputsOfJobs(workflowId).catch(() => {
      asked.delete(workflowId);
      return {};
    }));
  }
  return asked.get(workflowId);
}

async function outputsOfJobs(workflowId) {
  const get = async (route) => (await app.api.fetchApi(route)).json();
  const query = new URLSearchParams({ workflow_id: workflowId, status: "completed,failed", limit: LATEST });
  const { jobs } = await get(`/jobs?${query}`);
  const runs = await Promise.all(jobs.map(({ id }) => get(`/jobs/${id}`)));
  return Object.assign({}, ...runs.reverse().map(({ outputs }) => outputs));
}

/** All nodes of a graph and its subgraphs, each as [execution id, node]. */
function* withExecutionIds(graph, path = "") {
  for (const node of graph.nodes) {
    const id = `${path}${node.id}`;
    yield [id, node];
    if (node.subgraph) yield* withExecutionIds(node.subgraph, `${id}:`);
  }
}
