// The texts that the widget held, to go back and forth between.

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

  /** Take up what the user did. Steps that follow each other at once under one tag (a key held down) count as one. */
  add(text, tag) {
    if (text === this.#texts[this.#at]) return;
    const now = performance.now();
    const joins = tag !== undefined && tag === this.#tag && now - this.#time < TOGETHER_MS;
    this.#texts = [...this.#texts.slice(0, this.#at + (joins ? 0 : 1)), text].slice(-MOST);
    this.#at = this.#texts.length - 1;
    [this.#tag, this.#time] = [tag, now];
  }

  /** The text one step back (-1) or forth (1). */
  step(by) {
    this.#at += by;
    this.#tag = undefined;
    return this.#texts[this.#at];
  }

  /** Take up a text that came from elsewhere: one step back or forth where it is that, else a new beginning. */
  follow(text) {
    if (this.#texts[this.#at] === text) return;
    const near = [this.#at - 1, this.#at + 1].find((place) => this.#texts[place] === text);
    if (near === undefined) this.#texts = [text];
    this.#at = near ?? 0;
    this.#tag = undefined;
  }
}
