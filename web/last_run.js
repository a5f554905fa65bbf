// What the last run of a node gave: the page, opened anew, has forgotten it, ComfyUI's server has not.

import { app } from "../../scripts/app.js";

/** How many of a workflow's jobs are asked for: the last may have run a part of it only, and each holds a whole workflow. */
const LATEST = 3;
const followers = new WeakMap();
const asked = new Map();

/**
 * Call show(output) with what each run of the node gives (its ui) and, when the page has made the node anew, with what
 * its last run gave. widget: the DOM widget that shows it, if any.
 */
export function followRuns(node, show, widget) {
  if (!followers.has(node)) {
    followers.set(node, { widgets: [], shows: [], seen: false });
    const before = node.onExecuted;
    node.onExecuted = (...values) => {
      before?.apply(node, values);
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

  /** The page made its nodes anew. */
  afterConfigureGraph() {
    // Where the page changes to another workflow it brings that one's outputs after this call.
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
  // A run that has ended since tells more, and another workflow may have been opened.
  for (const [id, node] of unseen) if (node.graph && !followers.get(node).seen) tell(node, outputs[id]);
}

/** Nodes 2.0 goes on showing the elements of the node that had this one's id before. */
function mount(node) {
  if (node.graph !== app.canvas.graph) return;
  for (const { element } of followers.get(node).widgets) {
    const shown = document.querySelector(`[data-node-id="${node.id}"] .${element.classList[0]}`);
    if (shown && shown !== element) shown.replaceWith(element);
  }
}

/** The name under which the page keeps a node's outputs. */
export function locator(node) {
  return node.graph.isRootGraph ? String(node.id) : `${node.graph.id}:${node.id}`;
}

/**
 * The outputs of a workflow's nodes by execution id ("5", or "12:5" within a subgraph), of each its latest run. Asked for
 * once: later runs tell the page themselves, and the page makes its nodes anew at every step back.
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

/** All nodes of a graph and of the subgraphs in it, each as [execution id, node]. */
function* withExecutionIds(graph, path = "") {
  for (const node of graph.nodes) {
    const id = `${path}${node.id}`;
    yield [id, node];
    if (node.subgraph) yield* withExecutionIds(node.subgraph, `${id}:`);
  }
}
