// The undo history: the texts that the widget has held.

const TOGETHER_MS = 1000;
const MOST = 200;

export class History {
  #texts = [""];
  #at = 0;
  #tag;
  #time = 0;

  get canUndo() {
    return this.#at > 0;
  }

  get canRedo() {
    return this.#at < this.#texts.length - 1;
  }

  /** Adds a change. Changes in quick succession with the same tag (a key held down) count as one step. */
  add(text, tag) {
    if (text === this.#texts[this.#at]) return;
    const now = performance.now();
    const joins = tag !== undefined && tag === this.#tag && now - this.#time < TOGETHER_MS;
    this.#texts = [...this.#texts.slice(0, this.#at + (joins ? 0 : 1)), text].slice(-MOST);
    this.#at = this.#texts.length - 1;
    [this.#tag, this.#time] = [tag, now];
  }

  /** The text one step back (-1) or forward (1). */
  step(by) {
    this.#at += by;
    this.#tag = undefined;
    return this.#texts[this.#at];
  }

  /** Follows a text set from outside: moves one step back or forward if that is what it is, or starts a new history. */
  follow(text) {
    if (this.#texts[this.#at] === text) return;
    const near = [this.#at - 1, this.#at + 1].find((place) => this.#texts[place] === text);
    if (near === undefined) this.#texts = [text];
    this.#at = near ?? 0;
    this.#tag = undefined;
  }
}
