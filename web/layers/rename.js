// A layer's name, changed where it stands.

import { make } from "./dom.js";

/** Lay a text box with the name over a row. done(name): the new name, null where it stays. back(): the keyboard ended it. */
export function rename(row, name, done, back) {
  let open = true;
  const finish = (given) => {
    // A box that is taken away loses the focus.
    if (!open) return;
    open = false;
    input.remove();
    done(given && given !== name ? given : null);
  };
  const input = make("input", {
    class: "rename", value: name, "aria-label": "Layer name",
    onkeydown(event) {
      event.stopPropagation();
      if (event.key !== "Enter" && event.key !== "Escape") return;
      finish(event.key === "Enter" ? input.value.trim() : null);
      back();
    },
    onblur: () => finish(input.value.trim()),
  });
  row.append(input);
  input.focus({ preventScroll: true });
  input.select();
}
