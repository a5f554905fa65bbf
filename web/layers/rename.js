// Renames a layer in place.

import { make } from "./dom.js";

/** Opens a text box over a row. done(name): called with the new name, null if unchanged. back(): called if a key closed it. */
export function rename(row, name, done, back) {
  let open = true;
  const finish = (given) => {
    // Removing the box makes it lose the focus, which calls this again.
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
