// Numbers, moments and links in words.

// A window whose error is not finite has the largest float32 for a score.
const LARGEST = 3e38;

export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Math.abs(value) >= LARGEST) return "not finite";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return value.toExponential(digits - 1);
  return Number(value.toPrecision(digits + 1)).toString();
}

export function finite(value) {
  return value === null || value === undefined || Math.abs(value) >= LARGEST ? null : value;
}

export function count(value) {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10 || value === 0 ? count(value) : value.toFixed(1);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.9995e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${Number((seconds * 1e3).toPrecision(3))} ms`;
  if (seconds < 120) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function moment(text) {
  return text === null || text === undefined ? "–" : `${text.slice(0, 10)} ${text.slice(11, 19)} UTC`;
}

// In a table whose head says UTC.
export function shortMoment(text) {
  return moment(text).replace(" UTC", "");
}

export function share(value) {
  return `${Math.round(value * 100)} %`;
}

export function kind(name) {
  return name.replaceAll("_", " ");
}

export const alertLink = (id) => `#/alerts/${encodeURIComponent(id)}`;
export const seriesLink = (name) => `#/series/${encodeURIComponent(name)}`;
