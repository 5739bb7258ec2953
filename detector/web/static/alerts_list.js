// Lists of alerts, as tables that fold into cards on a narrow screen.
import { el } from "./dom.js";
import { alertLink, kind, number, shortMoment } from "./format.js";

export function severity(alert) {
  const words = alert.state === "open" ? alert.severity : `closed, was ${alert.severity}`;
  return [
    el("span", { class: "severity", data: { severity: alert.severity, state: alert.state } }, words),
    alert.muted ? el("span", { class: "muted" }, "muted") : null,
  ];
}

export function alertTable(alerts, caption) {
  const names = ["Series", "Severity", "Kind", "Peak score", "Threshold", "Most by", "Opened (UTC)", "Last event (UTC)"];
  const rows = alerts.map((alert) => {
    const cells = [
      [el("a", { href: alertLink(alert.alert_id) }, alert.series || "(no name)")],
      severity(alert),
      [kind(alert.kind)],
      [number(alert.peak_score)],
      [number(alert.threshold)],
      [alert.top_feature ?? "–"],
      [shortMoment(alert.opened_time)],
      [alert.last_event === null ? "before this process" : `${alert.last_event} ${shortMoment(alert.event_time)}`],
    ];
    return el("tr", { data: { alert: alert.alert_id } }, cells.map((content, i) => el(i ? "td" : "th", { scope: i ? null : "row", data: { name: names[i] } }, el("span", {}, content))));
  });
  return el("table", { class: "alerts" }, el("caption", { class: "unseen" }, caption), el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col", data: { name } }, name)))), el("tbody", {}, rows));
}
