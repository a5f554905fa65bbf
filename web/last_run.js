// What the last runs of a workflow gave: ComfyUI's server remembers it when the page, opened anew, does not.

// Entries of the server's history hold whole workflows, so only the latest are asked for.
const LATEST = 32;

/** The outputs (ui) of the workflow's nodes by execution id ("5", or "12:5" within a subgraph), of each its latest run. */
export async function lastOutputs(api, workflowId) {
  const answer = await api.fetchApi(`/history?max_items=${LATEST}`);
  if (!answer.ok) return {};
  const runs = Object.values(await answer.json())
    .filter(({ prompt }) => prompt[3]?.extra_pnginfo?.workflow?.id === workflowId)
    .sort((one, other) => one.prompt[0] - other.prompt[0]);
  return Object.assign({}, ...runs.map(({ outputs }) => outputs));
}

/** All nodes of a graph and of the subgraphs in it, each as [execution id, node]. */
export function* withExecutionIds(graph, path = "") {
  for (const node of graph.nodes) {
    const id = `${path}${node.id}`;
    yield [id, node];
    if (node.subgraph) yield* withExecutionIds(node.subgraph, `${id}:`);
  }
}
