// What the daemon is and how it is; the alerts that are open and those that closed last.
import { alertTable } from "./alerts_list.js";
import { ask, on } from "./api.js";
import { el, replace } from "./dom.js";
import { count, duration, kind, moment, number, rate } from "./format.js";

const FEW = { open: 50, closed: 10 };

export function overview(title) {
  title("State");
  const tiles = el("dl", { class: "tiles" });
  const open = el("div");
  const closed = el("div");
  const facts = el("dl", { class: "facts" });
  const shadow = el("div");
  const heading = el("h2", {}, "Open alerts");
  const element = el("div", {},
    el("h1", { class: "unseen", tabindex: "-1" }, "State of the detector"),
    tiles,
    el("section", { "aria-label": "Open alerts" }, heading, open),
    el("section", { "aria-label": "Closed alerts" }, el("h2", {}, "Closed lately"), closed),
    el("section", { "aria-label": "Details" }, el("h2", {}, "Model and process"), facts, shadow));
  let all = new Map();
  let every = false;
  let closedToo = false;

  function list() {
    const several = [...all.values()];
    const opened = several.filter((one) => one.state === "open");
    const done = several.filter((one) => one.state === "closed");
    heading.textContent = opened.length ? `Open alerts (${opened.length})` : "Open alerts";
    replace(open, opened.length ? shown(opened, "Open alerts", FEW.open, every, () => (every = true)) : el("p", { class: "fine" }, "None is open."));
    replace(closed, done.length ? shown(done, "Closed alerts", FEW.closed, closedToo, () => (closedToo = true)) : el("p", { class: "quiet" }, "None since the daemon started."));
  }

  function shown(several, caption, few, whole, wish) {
    const part = whole ? several : several.slice(0, few);
    if (part.length === several.length) return [alertTable(part, caption)];
    const more = el("button", { type: "button" }, `Show all ${several.length}`);
    more.addEventListener("click", () => {
      wish();
      list();
    });
    return [alertTable(part, caption), more];
  }

  async function load() {
    const found = await ask("alerts");
    all = new Map(found.alerts.map((one) => [one.alert_id, one]));
    list();
  }

  function state(now) {
    const { throughput, latency_seconds: latency, series, model, engine } = now;
    if (!series) return;
    const alertTime = latency.tick_to_alert;
    replace(tiles,
      tile("Open alerts", count(now.open_alerts), now.open_alerts ? "see below" : "all quiet", now.open_alerts ? "bad" : "good"),
      tile("Ticks a second", rate(throughput.ticks_per_second), `${rate(throughput.windows_per_second)} windows scored`),
      tile("Records waiting", count(now.lag.records), now.restoring.length ? `restoring ${now.restoring.length} partitions` : `${now.partitions.length} partition${now.partitions.length === 1 ? "" : "s"}`, now.lag.records > 100000 ? "bad" : ""),
      tile("Tick to alert", alertTime ? duration(alertTime.p50) : "–", alertTime ? `p95 ${duration(alertTime.p95)}, p99 ${duration(alertTime.p99)}` : "no alert yet"),
      tile("Series", count(series.active), `${count(series.warming)} warming, ${count(series.cold)} cold`),
      tile("Newest tick", now.newest_tick ? now.newest_tick.slice(11, 19) : "–", now.newest_tick ? `${now.newest_tick.slice(0, 10)} UTC` : "none yet"));
    const percentiles = (p) => (p ? `${duration(p.p50)}, p95 ${duration(p.p95)}, p99 ${duration(p.p99)}` : "–");
    replace(facts, [
      ["Model", model.version],
      ["Alerts on", kind(model.alerts_of_kind)],
      ["Threshold", number(model.threshold, 4)],
      ["Window", `${model.length_ticks} ticks, stride ${model.stride_ticks}`],
      ["Features", model.features.join(", ")],
      ["Engine", engine.why ? `${engine.name} (${engine.why})` : engine.name],
      ["A poll in the pipeline", percentiles(latency.pipeline)],
      ["A transaction", percentiles(latency.transaction)],
      ["Broker", now.broker],
      ["Topic", `${now.topic}, partitions ${now.partitions.join(", ") || "none"}`],
      ["Room for series", `${count(series.active)} of ${count(series.room)}`],
      ["Running since", moment(now.started_time)],
    ].map(fact));
    replace(shadow, now.shadow ? [el("h3", {}, "Candidate in the shadow"), el("dl", { class: "facts" }, Object.entries(now.shadow).map(([name, value]) => fact([kind(name), typeof value === "number" ? number(value) : String(value ?? "–")])))] : []);
  }

  const off = [
    on("state", state),
    on("alert", (alert) => {
      all.delete(alert.alert_id);
      all = new Map([[alert.alert_id, alert], ...all]);
      list();
    }),
    on("hello", () => load().catch(() => {})),
  ];
  ask("state").then(state).catch(() => {});
  load().catch((error) => replace(open, el("p", { class: "wrong" }, error.message)));
  return { element, series: [], destroy: () => off.forEach((stop) => stop()) };
}

function tile(name, value, words, mood = "") {
  return el("div", { class: "tile", data: { mood } }, el("dt", {}, name), el("dd", {}, el("span", { class: "value" }, value), el("span", { class: "words" }, words)));
}

function fact([name, value]) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}
