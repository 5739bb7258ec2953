// One series as it is now, its window, score and threshold as they move.
import { ask, on } from "./api.js";
import { el, replace, setText } from "./dom.js";
import { alertLink, count, moment, number } from "./format.js";
import { featurePlots, key, scorePlot } from "./plots.js";

export function seriesPage(title, name) {
  title(name);
  const heading = el("h1", { tabindex: "-1" }, name || "(no name)");
  const value = el("span", { class: "value" }, "–");
  const against = el("span", { class: "words" });
  const tile = el("div", { class: "tile" }, el("dt", {}, "Score now"), el("dd", {}, value, against));
  const heard = el("span", { class: "value small" }, "–");
  const ticks = el("span", { class: "words" });
  const tiles = el("dl", { class: "tiles" }, tile, el("div", { class: "tile" }, el("dt", {}, "Last tick"), el("dd", {}, heard, ticks)));
  const open = el("p", { class: "lead" });
  const note = el("p", { class: "quiet" });
  const score = scorePlot();
  const plots = featurePlots();
  plots.ranked = false;
  const windows = el("section", { "aria-label": "Observed and expected" }, el("h2", {}, "The last window"), note, el("p", { class: "legend" }, key("observed", "observed"), key("expected", "expected", true)), plots.element);
  const scores = el("section", { "aria-label": "Score against threshold" }, el("h2", {}, "Score against threshold"), score.element);
  const element = el("div", {}, el("p", { class: "crumb" }, el("a", { href: "#/" }, "All alerts")), heading, open, tiles, scores, windows);
  let alerts = "";

  function show(now) {
    if (now.series !== name) return;
    if (now.known === false) return unknown();
    for (const part of [tiles, windows, scores]) part.hidden = false;
    const above = now.score !== null && now.score > now.threshold;
    setText(value, number(now.score));
    setText(against, `threshold ${number(now.threshold)}`);
    tile.dataset.mood = above ? "bad" : "";
    setText(heard, now.heard_time.slice(11, 23));
    setText(ticks, `${moment(now.heard_time).slice(0, 10)} UTC, partition ${now.partition}${now.partitions.length > 1 ? ` (of ${now.partitions.join(", ")})` : ""}`);
    if (alerts !== now.open_alerts.join()) {
      alerts = now.open_alerts.join();
      replace(open, now.open_alerts.map((id) => el("a", { class: "button bad", href: alertLink(id) }, "An alert is open: why")));
    } else if (!alerts) {
      replace(open);
    }
    setText(note, now.warming
      ? `Warming: ${count(Math.max(0, now.ticks))} of ${now.length_ticks} ticks; it is scored once a window is full.`
      : now.expected === null ? "What is expected is drawn with the next window." : "");
    score.show(now, now.threshold);
    if (now.observed.length) plots.show(now);
  }

  function unknown() {
    for (const part of [tiles, windows, scores]) part.hidden = true;
    replace(open, "No such series is known here. It may belong to another worker of the group, or have been forgotten.");
  }

  async function load() {
    try {
      show(await ask("live", { series: name }));
    } catch (error) {
      if (error.status === 404) unknown();
      else replace(open, error.message);
    }
  }

  const off = [on("series", show), on("hello", load)];
  load();
  return {
    element,
    series: [name],
    destroy() {
      off.forEach((stop) => stop());
      score.destroy();
      plots.destroy();
    },
  };
}
