// One alert: why it was raised, drawn.
import { severity } from "./alerts_list.js";
import { ask, on } from "./api.js";
import { el, replace } from "./dom.js";
import { duration, kind, moment, number, seriesLink, share } from "./format.js";
import { featurePlots, key, scorePlot } from "./plots.js";

const AGAIN_MS = 4000;
const ON_WINDOWS = new Set(["reconstruction_error", "prediction_error"]);

export function alertPage(title, id) {
  title("Alert");
  const heading = el("h1", { tabindex: "-1" }, "Alert");
  const head = el("div", { class: "badges" });
  const sentence = el("p", { class: "lead" });
  const facts = el("dl", { class: "facts" });
  const body = el("div");
  const element = el("div", {}, el("p", { class: "crumb" }, el("a", { href: "#/" }, "All alerts")), heading, head, sentence, body, facts);
  const score = scorePlot();
  const plots = featurePlots();
  let which = 0;
  let again = null;
  let gone = false;
  let modelThreshold = null;
  let chosen = "";

  function show(alert) {
    title(`${alert.series} – alert`);
    heading.textContent = alert.series || "(no name)";
    replace(head, severity(alert));
    replace(sentence, words(alert));
    const event = alert.events[Math.min(which, alert.events.length - 1)];
    const own = ON_WINDOWS.has(alert.kind) && event;
    const marks = [Date.parse(alert.opened_time) / 1000];
    if (alert.last_event === "resolved") marks.push(Date.parse(alert.event_time) / 1000);
    if (!body.childElementCount) build(alert);
    score.show(alert, own ? event.threshold : modelThreshold, marks);
    if (event && event.observed.length) plots.show(event);
    drawChoice(alert);
    drawViews(event);
    replace(facts, [
      ["Kind", kind(alert.kind)],
      ["Score", event ? `${number(event.score)} against ${number(event.threshold)}` : "–"],
      ["Peak score", number(alert.peak_score)],
      ["Opened", moment(alert.opened_time)],
      ["Last event", alert.last_event ? `${alert.last_event} ${moment(alert.event_time)}` : "before this process"],
      ["Committed", moment(alert.committed_time)],
      event?.fault ? ["Looks like", `${event.fault.kind} (${share(event.fault.probability)})`] : null,
      alert.reason ? ["Reason", alert.reason] : null,
      event ? ["Input", `${event.input.topic}, partition ${event.input.partition}, offset ${event.input.offset}, index ${event.input.index}`] : null,
      ["Model", event?.model_version ?? "–"],
      ["Alert id", alert.alert_id],
    ].filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }

  const choice = el("p", { class: "choice" });
  const views = el("div");

  function build(alert) {
    const event = alert.events[0];
    const live = el("p", {}, el("a", { class: "button", href: seriesLink(alert.series) }, "Watch this series live"));
    const parts = [el("section", { "aria-label": "Score against threshold" }, el("h2", {}, "Score against threshold"), score.element)];
    if (event && event.observed.length) {
      parts.unshift(el("section", { "aria-label": "Observed and expected" }, el("h2", {}, "Observed and expected"), choice, el("p", { class: "legend" }, key("observed", "observed"), key("expected", "expected", true)), plots.element));
      parts.push(views);
    } else if (!event) {
      parts.unshift(el("p", { class: "quiet" }, "It was opened before this process started: its window is in the alerts topic."));
    }
    replace(body, live, parts);
  }

  function drawChoice(alert) {
    const now = alert.events.map((event) => event.id).join() + which;
    if (alert.events.length < 2 || now === chosen) return;
    chosen = now;
    replace(choice, "Window of: ", alert.events.map((event, i) => {
      const button = el("button", { type: "button", "aria-pressed": String(i === which) }, `${event.event} ${event.time.slice(11, 19)}`);
      button.addEventListener("click", () => {
        which = i;
        show(alert);
        choice.children[i]?.focus();
      });
      return button;
    }));
  }

  function drawViews(event) {
    const names = Object.entries(event?.views ?? {}).sort((a, b) => b[1] - a[1]);
    if (!names.length) return;
    const most = Math.max(...names.map(([, evidence]) => evidence), event.threshold);
    replace(views, el("section", { "aria-label": "Views" }, el("h2", {}, "Evidence of each view"),
      el("table", { class: "views" }, el("caption", { class: "unseen" }, "Evidence of each view"),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "View"), el("th", { scope: "col" }, "Evidence"), el("td", {}))),
        el("tbody", {}, names.map(([name, evidence]) => {
          const bar = el("span", { class: "bar" });
          bar.style.width = `${Math.max(0, Math.min(100, (evidence / most) * 100))}%`;
          return el("tr", {}, el("th", { scope: "row" }, kind(name)), el("td", {}, number(evidence)), el("td", { class: "bars" }, el("span", { class: "track", "aria-hidden": "true" }, bar)));
        }))),
      el("p", { class: "quiet" }, "Evidence of 4: one normal window in ten thousand looks as strange.")));
  }

  async function load() {
    clearTimeout(again);
    if (gone) return;
    try {
      if (modelThreshold === null) modelThreshold = (await ask("state")).model?.threshold ?? null;
      const alert = await ask(`alerts/${encodeURIComponent(id)}`);
      if (gone) return;
      show(alert);
      const since = Date.now() - Date.parse(alert.committed_time ?? alert.event_time);
      if (alert.state === "open" || since < 180000) again = setTimeout(load, AGAIN_MS);
    } catch (error) {
      if (error.status === 404) {
        heading.textContent = "This alert is not known here";
        replace(sentence, "It is not open on this worker, and not among the last that closed. The alerts topic has it; another worker of the group may show it.");
        replace(body);
      } else {
        if (!body.childElementCount) replace(sentence, error.message);
        again = setTimeout(load, AGAIN_MS);
      }
    }
  }

  const off = [on("alert", (alert) => alert.alert_id === id && load()), on("hello", load)];
  load();
  return {
    element,
    series: [],
    destroy() {
      gone = true;
      clearTimeout(again);
      off.forEach((stop) => stop());
      score.destroy();
      plots.destroy();
    },
  };
}

function words(alert) {
  const lasted = (Date.parse(alert.event_time) - Date.parse(alert.opened_time)) / 1000;
  const event = alert.events[0];
  if (alert.kind === "silence") return `Nothing was heard of this series: it fell silent by ${moment(alert.opened_time)}.`;
  if (alert.kind === "model_drift") return "Usual windows of this series are rare by the model's calibration: it has left the world the model was trained in.";
  if (alert.kind === "new_normal") return "An incident has lasted so long that the series is judged by it from now on.";
  if (!event) return `Open since ${moment(alert.opened_time)}.`;
  const parts = Object.entries(event.contributions).sort((a, b) => b[1] - a[1]);
  const main = parts.length ? `, most of it by ${parts[0][0]} (${share(parts[0][1])})` : "";
  const end = alert.last_event === "resolved" ? ` It was resolved after ${duration(lasted)} of its own time.` : "";
  return `A window scored ${number(event.score)} where ${number(event.threshold)} is the threshold${main}.${end}`;
}
