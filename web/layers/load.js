// Loads the layers that a node sent, with their pixels.

/**
 * Loads the pixels of all layers of a node's payload (`layer_panel[0]` of its ui).
 * viewUrl: turns {filename, subfolder, type} into a URL. Returns {madeFor, stale, canvas: [w, h], linear, layers}. Each
 * layer has the payload's fields and `pixels`: {width, height, rgb, coverage}, as bytes, not premultiplied.
 */
export async function loadDocument(payload, viewUrl) {
  const layers = await Promise.all(payload.layers.map(async ({ colour, coverage, ...fields }) => {
    const [picture, mask] = await Promise.all([colour, coverage].map((file) => loadPicture(viewUrl(file))));
    return { ...fields, pixels: joined(picture, mask) };
  }));
  return { madeFor: payload.made_for, stale: payload.stale, canvas: payload.canvas, linear: payload.linear, layers };
}

async function loadPicture(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`The image of this layer is no longer on the server (${answer.status}). Run the workflow again.`);
  // The bytes as stored, without colour conversion for the screen.
  const bitmap = await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

function joined({ width, height, data }, mask) {
  const rgb = new Uint8ClampedArray(width * height * 3);
  const coverage = new Uint8ClampedArray(width * height);
  for (let pixel = 0; pixel < coverage.length; pixel++) {
    rgb[3 * pixel] = data[4 * pixel];
    rgb[3 * pixel + 1] = data[4 * pixel + 1];
    rgb[3 * pixel + 2] = data[4 * pixel + 2];
    coverage[pixel] = mask.data[4 * pixel];
  }
  return { width, height, rgb, coverage };
}
