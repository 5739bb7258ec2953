// Which page is shown, and what stands around it.
import { alertPage } from "./alert.js";
import { ask, follow, on } from "./api.js";
import { replace, setText } from "./dom.js";
import { kind } from "./format.js";
import { overview } from "./overview.js";
import { search } from "./search.js";
import { seriesPage } from "./series.js";

const main = document.getElementById("main");
const health = document.getElementById("health");
const announced = document.getElementById("announced");
let page = null;
let name = "";
let openAlerts = 0;

function title(words) {
  name = words;
  document.title = `${openAlerts ? `(${openAlerts}) ` : ""}${name} – detector`;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a link that somebody has cut off
  }
}

function route(first) {
  const [, place, ...rest] = location.hash.slice(1).split("/");
  const what = decoded(rest.join("/"));
  page?.destroy();
  if (place === "alerts" && what) page = alertPage(title, what);
  else if (place === "series" && rest.length) page = seriesPage(title, what);
  else page = overview(title);
  replace(main, page.element);
  follow(page.series);
  if (!first) {
    window.scrollTo(0, 0);
    main.querySelector("h1")?.focus({ preventScroll: true });
  }
}

let heardAt = performance.now();

function status(words, state) {
  setText(health, words);
  health.dataset.state = state;
}

async function look() {
  try {
    const state = await ask("state");
    heardAt = performance.now();
    if (state.version) setText(document.getElementById("about"), `detector ${state.version}`);
    if (state.live) status(`Not well: ${state.live}`, "bad");
    else if (state.ready) status(`Not ready: ${state.ready}`, "waiting");
    else if (state.age_seconds === null || state.age_seconds > 10) status("The loop has not answered lately", "waiting");
    else status("Ready", "good");
  } catch (error) {
    status(error.status === undefined ? "No connection to the daemon" : error.message, "bad");
  }
}

on("state", (state) => {
  heardAt = performance.now();
  if (state.open_alerts !== openAlerts) {
    openAlerts = state.open_alerts;
    title(name);
  }
  if (health.dataset.state !== "good") look();
});
on("alert", (alert) => {
  setText(announced, `Alert ${alert.last_event}: ${alert.series}, ${alert.severity}, ${kind(alert.kind)}`);
});
on("hello", look);
on("lost", look);
setInterval(() => performance.now() - heardAt > 5000 && !document.hidden && look(), 2500);

// The fragment is the route: the link may not take it away.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", () => route(false));
search();
look();
route(true);
