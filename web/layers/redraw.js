// Which layers the next run redraws, according to the text widget `redraw`. The counterpart of chosen_layers in redraw.py in the
// page.

const NUMBERS = /^(\d+)(?:\s*-\s*(\d+))?$/;

/** The numbers of the layers that a text lists, and the parts of the text that match no layer: {numbers, rest}. */
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

/** The text with a layer added to the list, or removed if it is listed. */
export function withToggled(text, layers, number) {
  const { numbers, rest } = chosenLayers(text, layers);
  if (!numbers.delete(number)) numbers.add(number);
  return [...[...numbers].sort((one, other) => one - other), ...rest].join(", ");
}

function isCalled({ name }, part) {
  return name.trim().toLowerCase() === part.toLowerCase();
}
