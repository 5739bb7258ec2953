// The search for a series: a list of links below the field, reached with the arrow keys.
import { ask } from "./api.js";
import { el, replace, setText } from "./dom.js";
import { seriesLink } from "./format.js";

const WAIT_MS = 150;
const MOST = 12;

export function search() {
  const form = document.getElementById("search");
  const field = document.getElementById("wanted");
  const list = document.getElementById("found");
  const told = document.getElementById("found-count");
  let waiting = null;
  let asked = 0;

  const links = () => [...list.querySelectorAll("a")];
  const close = () => {
    list.hidden = true;
    asked += 1;
  };

  async function look() {
    const wanted = field.value;
    const mine = ++asked;
    if (!wanted) {
      setText(told, "");
      return close();
    }
    try {
      const found = await ask("series", { contains: wanted, limit: MOST });
      if (mine !== asked) return;
      const rest = found.total - found.series.length;
      replace(list,
        found.series.map((name) => el("li", {}, el("a", { href: seriesLink(name) }, name || "(no name)"))),
        rest > 0 ? el("li", { class: "quiet" }, `and ${rest.toLocaleString("en")} more`) : null,
        found.total === 0 ? el("li", { class: "quiet" }, "No series has this in its name.") : null);
      setText(told, `${found.total} found`);
    } catch (error) {
      if (mine !== asked) return;
      replace(list, el("li", { class: "quiet" }, error.message));
      setText(told, error.message);
    }
    list.hidden = false;
  }

  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(look, WAIT_MS);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    await look();
    const exact = links().find((link) => link.textContent === field.value);
    (exact ?? links()[0])?.click();
  });
  form.addEventListener("keydown", (event) => {
    const several = links();
    const at = several.indexOf(document.activeElement);
    if (event.key === "Escape") {
      close();
      field.focus();
    } else if (event.key === "ArrowDown" && !list.hidden && several.length) {
      event.preventDefault();
      several[Math.min(at + 1, several.length - 1)].focus();
    } else if (event.key === "ArrowUp" && at >= 0) {
      event.preventDefault();
      (several[at - 1] ?? field).focus();
    }
  });
  form.addEventListener("focusout", (event) => {
    if (!form.contains(event.relatedTarget)) list.hidden = true;
  });
  field.addEventListener("focus", () => {
    if (field.value && list.childElementCount) list.hidden = false;
  });
  list.addEventListener("click", (event) => {
    if (event.target.closest("a")) {
      close();
      field.value = "";
    }
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  });
}
