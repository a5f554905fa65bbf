// Which layers are drawn anew at the next run, as a node's text widget `redraw` says it: the page's reading of redraw.py's
// chosen_layers.

const NUMBERS = /^(\d+)(?:\s*-\s*(\d+))?$/;

/** The numbers that a text names of a document's layers, and the parts of it that are none of theirs: {numbers, rest}. */
export function chosenLayers(text, layers) {
  const numbers = new Set();
  const rest = [];
  for (const part of text.split(/[,;\n]/).map((each) => each.trim()).filter(Boolean)) {
    const [, first, last = first] = part.match(NUMBERS) ?? [];
    const found = [...layers.keys()].filter((number) => (first === undefined ? isCalled(layers[number], part)
      : number >= Number(first) && number <= Number(last)));
    for (const number of found) numbers.add(number);
    if (!found.length) rest.push(part);
  }
  return { numbers, rest };
}

/** The text in which a layer is chosen that was not, or no longer. */
export function withToggled(text, layers, number) {
  const { numbers, rest } = chosenLayers(text, layers);
  if (!numbers.delete(number)) numbers.add(number);
  return [...[...numbers].sort((one, other) => one - other), ...rest].join(", ");
}

function isCalled({ name }, part) {
  return name.trim().toLowerCase() === part.toLowerCase();
}
