// What a panel keeps beside the edits while the page makes its node anew, as at a change to another workflow and back.

import { History } from "./history.js";

const MOST = 50;
const all = new Map();

/** A panel's history, the number of its selected layer, and that of the one that alone is shown; null where there is none. */
export class Kept {
  history = new History();
  selected = null;
  solo = null;
}

/** What the panel of a node kept. key: the same for the same node of the same workflow. */
export function recall(key) {
  const kept = all.get(key) ?? new Kept();
  all.delete(key);
  all.set(key, kept);
  if (all.size > MOST) all.delete(all.keys().next().value);
  return kept;
}
