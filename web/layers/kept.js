// What a panel keeps, apart from the edits, when the page recreates its node, as on switching workflows and back.

import { History } from "./history.js";

const MOST = 50;
const all = new Map();

/** A panel's history, and the numbers of its selected and its solo layer, null if there is none. */
export class Kept {
  history = new History();
  selected = null;
  solo = null;
}

/** What a node's panel kept. key: identifies the node and its workflow. */
export function recall(key) {
  const kept = all.get(key) ?? new Kept();
  all.delete(key);
  all.set(key, kept);
  if (all.size > MOST) all.delete(all.keys().next().value);
  return kept;
}
