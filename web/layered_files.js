// Layered files on the user's computer: finding them in a selection, and reading the workflow in them.

const ENDINGS = [".psd", ".psb", ".ora"];
const INDEX = "layers.json";
const NAMESPACE = "urn:layerdiff/";

/** The file types for a file dialog. */
export const ACCEPTED = [...ENDINGS, ".json", ".png"].join(",");

/** The files of a drop, including those in dropped folders. Must be called before the event is over. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const listed = await Promise.all(entries.map((entry) => (entry.isDirectory ? inFolder(entry) : [entry])));
  return Promise.all(listed.flat().filter((entry) => entry.isFile).map((entry) => new Promise((done, fail) => entry.file(done, fail))));
}

async function inFolder(folder) {
  const reader = folder.createReader();
  const found = [];
  // A reader returns a large folder in several parts.
  for (;;) {
    const part = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!part.length) return found;
    found.push(...part);
  }
}

/** The part of a selection to import: one layered file, or a layers.json with its images; null if there is neither. */
export function layeredPart(files) {
  const file = files.find(({ name }) => ENDINGS.some((ending) => name.toLowerCase().endsWith(ending)));
  if (file) return { main: file, files: [file] };
  const index = files.find(({ name }) => name === INDEX);
  return index ? { main: index, files: [index, ...files.filter(({ name }) => name.toLowerCase().endsWith(".png"))] } : null;
}

/** The workflow and prompt, as JSON texts, stored in an exported PSD or OpenRaster file; {} if there are none. */
export async function textIn(file) {
  try {
    return await (file.name.toLowerCase().endsWith(".ora") ? textInOra(file) : textInPsd(file));
  } catch {
    // A damaged file has no workflow. The import node reports the damage.
    return {};
  }
}

// The texts are in the XMP metadata among the image resources, which follow a header of 26 bytes and the colour mode data.
async function textInPsd(file) {
  const number = async (at) => new DataView(await file.slice(at, at + 4).arrayBuffer()).getUint32(0);
  const resources = 26 + 4 + await number(26);
  const text = await file.slice(resources + 4, resources + 4 + await number(resources)).text();
  const xmp = text.match(/<x:xmpmeta.*<\/x:xmpmeta>/s);
  if (!xmp) return {};
  const document = new DOMParser().parseFromString(xmp[0], "application/xml");
  // Photoshop rewrites the element as an attribute.
  const attribute = [...document.querySelectorAll("*")].map((element) => element.getAttributeNS(NAMESPACE, "text")).find(Boolean);
  return JSON.parse(document.getElementsByTagNameNS(NAMESPACE, "text")[0]?.textContent ?? attribute ?? "{}");
}

// The texts are in the merged image, which is stored uncompressed in the archive.
async function textInOra(file) {
  const data = new DataView(await file.arrayBuffer());
  const name = (at, length) => new TextDecoder().decode(new Uint8Array(data.buffer, at, length));
  let end = data.byteLength - 22;
  while (data.getUint32(end, true) !== 0x06054b50) end--;
  let entry = data.getUint32(end + 16, true);
  for (let left = data.getUint16(end + 10, true); left > 0; left--) {
    const [length, extra, comment] = [28, 30, 32].map((at) => data.getUint16(entry + at, true));
    if (name(entry + 46, length) === "mergedimage.png") {
      const local = data.getUint32(entry + 42, true);
      const start = local + 30 + data.getUint16(local + 26, true) + data.getUint16(local + 28, true);
      const picture = data.buffer.slice(start, start + data.getUint32(entry + 20, true));
      return await window.comfyAPI.pnginfo.getPngMetadata(new File([picture], "mergedimage.png"));
    }
    entry += 46 + length + extra + comment;
  }
  return {};
}
