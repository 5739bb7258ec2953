// Plots by uPlot (vendor/), each with a description for those who do not see it.
import { el, replace, setText } from "./dom.js";
import { finite, number } from "./format.js";

const { uPlot } = window;
const drawn = new Set();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// data: [x, y...]; lines: {label, colour, dashed, points}; marks: x where something happened.
class Plot {
  constructor({ label, lines, time, height, xLabel }) {
    this.options = { label, lines, time, height, xLabel };
    this.box = el("div", { class: "plot" });
    this.summary = el("figcaption", { class: "unseen" });
    this.figure = el("figure", { class: "figure" }, this.box, this.summary);
    this.box.setAttribute("role", "img");
    this.marks = [];
    this.data = [[], ...lines.map(() => [])];
    this.plot = null;
    this.sized = new ResizeObserver(() => this.resize());
    this.sized.observe(this.box);
    drawn.add(this);
  }

  resize() {
    const width = Math.floor(this.box.clientWidth);
    if (width <= 0) return;
    if (this.plot === null) this.draw(width);
    else if (width !== this.plot.width) this.plot.setSize({ width, height: this.options.height });
  }

  draw(width) {
    const { lines, time, height, xLabel } = this.options;
    const grid = { stroke: colour("grid"), width: 1 };
    const axis = { stroke: colour("quiet"), font: "11px system-ui, sans-serif", grid, ticks: { ...grid, size: 4 } };
    const options = {
      width,
      height,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time }, y: { range: (_, low, high) => padded(low, high) } },
      axes: [
        { ...axis, size: 26, label: xLabel, labelSize: 14, labelFont: axis.font, labelGap: 0, space: 76, ...(time ? { values: (_, ticks, __, ___, step) => ticks.map((at) => clock(at, step)) } : {}) },
        { ...axis, size: 56, space: 24, values: (_, ticks) => ticks.map((tick) => number(tick, 3)) },
      ],
      series: [
        {},
        ...lines.map((line) => ({
          label: line.label,
          stroke: colour(line.colour),
          width: line.dashed ? 1.5 : 2,
          dash: line.dashed ? [6, 4] : undefined,
          spanGaps: false,
          points: { show: Boolean(line.points), size: 4, fill: colour(line.colour) },
        })),
      ],
      hooks: { drawClear: [(plot) => this.mark(plot)], setCursor: [(plot) => this.read(plot)] },
    };
    this.plot = new uPlot(options, this.data, this.box);
  }

  mark(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour("mark");
    ctx.lineWidth = 2 * devicePixelRatio;
    for (const x of this.marks) {
      const at = Math.round(plot.valToPos(x, "x", true));
      if (at < bbox.left || at > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  // The values under the pointer.
  read(plot) {
    if (!this.reading) return;
    const at = plot.cursor.idx;
    const parts = at === null || at === undefined ? [] : this.options.lines.map((line, i) => [line, this.data[i + 1][at]]);
    const told = parts.filter(([, y]) => y !== null && y !== undefined);
    setText(this.reading, told.map(([line, y]) => `${line.label} ${number(y, 4)}`).join("   "));
  }

  show(data, { marks = [], label }) {
    this.data = data;
    this.marks = marks;
    this.box.setAttribute("aria-label", label);
    setText(this.summary, label);
    if (this.plot === null) this.resize();
    else this.plot.setData(data);
  }

  redraw() {
    if (this.plot === null) return;
    this.plot.destroy();
    this.plot = null;
    this.resize();
  }

  destroy() {
    this.sized.disconnect();
    drawn.delete(this);
    if (this.plot !== null) this.plot.destroy();
  }
}

// UTC, like every moment of the page.
function clock(seconds, step) {
  const text = new Date(seconds * 1e3).toISOString();
  if (step >= 86400) return text.slice(0, 10);
  return step >= 60 ? text.slice(11, 16) : text.slice(11, 19);
}

function padded(low, high) {
  if (low === null || high === null) return [0, 1];
  const room = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of drawn) plot.redraw();
});

// Score against threshold. history: [[seconds, score]...]
export function scorePlot() {
  const plot = new Plot({
    label: "score",
    lines: [{ label: "score", colour: "observed", points: true }, { label: "threshold", colour: "threshold", dashed: true }],
    time: true,
    height: 190,
  });
  plot.reading = el("span", { class: "reading" });
  const none = el("p", { class: "quiet", hidden: true }, "No window of this series has been scored since the daemon started.");
  const legend = el("p", { class: "legend" }, key("observed", "score, the highest in 4 s"), key("threshold", "threshold", true), el("span", {}, "time in UTC"), plot.reading);
  return {
    element: el("div", {}, legend, plot.figure, none),
    show({ history, history_every_seconds: every }, threshold, marks = []) {
      const line = finite(threshold);
      const x = history.map(([at]) => at + every / 2);
      const y = history.map(([, score]) => finite(score));
      none.hidden = x.length > 0;
      plot.figure.hidden = x.length === 0;
      if (!x.length) return;
      const above = line === null ? 0 : history.filter(([, score]) => score > line).length;
      const last = y.at(-1);
      const label =
        `Score against threshold: ${x.length} points over ${Math.round((x.at(-1) - x[0]) / 60)} minutes, ` +
        `highest ${number(Math.max(...y.filter((s) => s !== null)))}, last ${number(last)}, ` +
        (line === null ? "no threshold." : `threshold ${number(line)}, ${above} above it.`);
      if (x.length === 1) {
        x.push(x[0] + every);
        y.push(null);
      }
      plot.show([x, y, x.map(() => line)], { marks, label });
    },
    destroy: () => plot.destroy(),
  };
}

export function key(name, words, dashed = false) {
  return el("span", { class: "key" }, el("span", { class: `swatch ${name}${dashed ? " dashed" : ""}`, "aria-hidden": "true" }), words);
}

// One plot a feature, those that contribute most first. expected: fewer rows, or null.
export function featurePlots() {
  const grid = el("div", { class: "features" });
  const details = el("details", { class: "numbers" });
  let made = new Map();
  let order = "";
  const clear = () => {
    for (const one of made.values()) one.plot.destroy();
    made = new Map();
  };
  return {
    element: el("div", {}, grid, details),
    show({ features, observed, expected, contributions }) {
      const ranked = [...features].sort((a, b) => (contributions[b] ?? 0) - (contributions[a] ?? 0));
      // Live windows change their ranks with every tick: then the order of the model stays.
      const names = this.ranked === false ? features : ranked;
      if (names.join("\0") !== order) {
        clear();
        order = names.join("\0");
        made = new Map(names.map((name) => [name, featurePlot(name)]));
        replace(grid, [...made.values()].map((one) => one.element));
      }
      const first = 1 - observed.length;
      const x = observed.map((_, i) => first + i);
      const missing = observed.length - (expected?.length ?? 0);
      features.forEach((name, at) => {
        const seen = observed.map((row) => row[at]);
        const wanted = observed.map((_, i) => (expected && i >= missing ? expected[i - missing][at] : null));
        made.get(name).show(x, seen, wanted, contributions[name]);
      });
      table(details, features, observed, expected, missing);
    },
    ranked: true,
    destroy: clear,
  };
}

function featurePlot(name) {
  const plot = new Plot({
    label: name,
    lines: [{ label: "observed", colour: "observed" }, { label: "expected", colour: "expected", dashed: true }],
    time: false,
    height: 160,
    xLabel: "ticks before the last",
  });
  const bar = el("span", { class: "bar" });
  const percent = el("span", { class: "percent" });
  plot.reading = el("span", { class: "reading" });
  const contributed = el("span", { class: "contribution" }, percent, el("span", { class: "track", "aria-hidden": "true" }, bar));
  const head = el("div", { class: "feature-head" }, el("h3", {}, name), plot.reading, contributed);
  return {
    plot,
    element: el("section", { class: "feature", "aria-label": `Feature ${name}` }, head, plot.figure),
    show(x, observed, expected, contribution) {
      const part = contribution ?? 0;
      bar.style.width = `${Math.round(part * 100)}%`;
      contributed.hidden = contribution === undefined;
      setText(percent, `${Math.round(part * 100)} % of the score`);
      const last = observed.at(-1);
      const wanted = expected.at(-1);
      const label = `${name}: the last tick was ${number(last, 4)}, expected ${number(wanted, 4)}; ${Math.round(part * 100)} % of the score; ${x.length} ticks.`;
      plot.show([x, observed, expected], { label });
    },
  };
}

function table(details, features, observed, expected, missing) {
  const open = details.open;
  const fill = () => {
    const head = el("tr", {}, el("th", { scope: "col" }, "tick"), features.map((name) => [el("th", { scope: "col" }, name), el("th", { scope: "col" }, "expected")]));
    const rows = observed.map((row, i) =>
      el("tr", {}, el("th", { scope: "row" }, String(i + 1 - observed.length)), row.map((value, at) => [
        el("td", {}, number(value, 5)),
        el("td", {}, number(expected && i >= missing ? expected[i - missing][at] : null, 5)),
      ])),
    );
    replace(details, el("summary", {}, "The window in numbers"), el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "The window in numbers" }, el("table", {}, el("thead", {}, head), el("tbody", {}, rows))));
  };
  if (open) {
    if (!details.contains(document.activeElement)) fill();
  } else {
    replace(details, el("summary", {}, "The window in numbers"));
    details.ontoggle = () => details.open && details.childElementCount === 1 && fill();
  }
}
