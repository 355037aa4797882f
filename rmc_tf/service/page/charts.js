// The service's last minutes: /metrics, asked while the page is open, as small line charts.

import { metrics } from "./server.js";

const EVERY = 2000; // milliseconds from one question to the next
const SHORTEST = 60; // seconds that a chart shows at least
const LONGEST = 300; // and at most
const RECENT = 60; // seconds that "the last minute" is

const WIDTH = 280;
const HEIGHT = 96;
const LEFT = 42;
const TOP = 8;
const BOTTOM = 18;

const number = (digits) => (value) => value.toLocaleString("en", { maximumFractionDigits: digits });
const percent = (value) => `${Math.round(100 * value)}\u00a0%`;

const CHARTS = [
  { name: "Answers in the last minute", of: (now, then) => now.answers - then.answers, text: number(0), least: 5 },
  { name: "Seconds an answer, mean", of: mean("seconds", "timed"), text: number(2), least: 0.1 },
  { name: "Requests that wait", of: (now) => now.queue, text: number(0), least: 5 },
  { name: "How far the weights have moved", of: (now) => now.distance, text: number(2), least: 0.1 },
  { name: "Attacked images looked up", of: mean("share", "shares"), text: percent, least: 1 },
];

/** The mean in the last minute, of two counters; null where nothing was counted. */
function mean(sum, count) {
  return (now, then) => (now[count] > then[count] ? (now[sum] - then[sum]) / (now[count] - then[count]) : null);
}

/** Begins to ask, and shows; `state` is told in words how the service is. */
export function watch(container, state) {
  const points = [];
  const drawn = CHARTS.map((chart) => new Chart(chart, container));
  const ask = async () => {
    if (!document.hidden) {
      try {
        add(points, await metrics());
        state.textContent = words(points.at(-1));
        for (const chart of drawn) chart.show(points);
      } catch {
        state.textContent = "The service can’t be reached at the moment.";
      }
    }
    setTimeout(ask, EVERY);
  };
  ask();
  return drawn;
}

function add(points, found) {
  const now = performance.now() / 1000;
  // Of several replicas each sample is there once for each, with its number.
  const sum = (name, label = "") =>
    Object.entries(found).reduce((total, [key, value]) => {
      const own = key === name || (key.startsWith(`${name}{`) && key.includes(label));
      return own ? total + value : total;
    }, 0);
  const most = (name) =>
    Object.entries(found).reduce(
      (largest, [key, value]) => (key === name || key.startsWith(`${name}{`) ? Math.max(largest, value) : largest),
      0,
    );
  const point = {
    time: now,
    answers: sum("rmc_answers_total"),
    adapted: sum("rmc_answers_total", 'why="adapted"'),
    seconds: sum("rmc_seconds_sum", 'part="total"'),
    timed: sum("rmc_seconds_count", 'part="total"'),
    queue: sum("rmc_queue_requests"),
    distance: most("rmc_last_distance"),
    share: sum("rmc_adversarial_share_sum"),
    shares: sum("rmc_adversarial_share_count"),
    version: most("rmc_state_version"),
    frozen: most("rmc_state_frozen") === 1,
  };
  // A service that was started again counts from nothing.
  if (points.length && point.answers < points.at(-1).answers) points.length = 0;
  const before = points.findLast((each) => each.time <= now - RECENT) ?? points[0] ?? point;
  point.values = CHARTS.map((chart) => chart.of(point, before));
  points.push(point);
  while (points[0].time < now - LONGEST) points.shift();
}

function words(point) {
  const weights = point.frozen ? "They stay as they are: an operator has frozen them." : "";
  return (
    `${point.answers} answers since the service began, ${point.adapted} of them by the adapted network. ` +
    `The weights were last written as state ${point.version}. ${weights}`
  );
}

/** One chart: a line over the last minutes, and the present value in words. */
class Chart {
  constructor({ name, text, least }, container) {
    this.number = CHARTS.findIndex((chart) => chart.name === name);
    Object.assign(this, { name, text, least });
    const figure = document.createElement("figure");
    figure.className = "chart";
    const caption = document.createElement("figcaption");
    this.now = document.createElement("span");
    this.now.className = "now";
    caption.append(name, this.now);
    this.svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    figure.append(caption, this.svg);
    container.append(figure);
    this.show([]);
  }

  show(points) {
    const values = points.map((point) => point.values[this.number]);
    const known = values.filter((value) => value !== null);
    const last = values.at(-1) ?? null;
    const most = nice(Math.max(this.least, ...known));
    const floor = HEIGHT - BOTTOM;
    const now = points.at(-1)?.time ?? 0;
    const span = Math.max(SHORTEST, now - (points[0]?.time ?? 0));
    const ago = span < 2 * SHORTEST ? `${Math.round(span)} s ago` : `${Math.round(span / 60)} min ago`;
    const x = (time) => WIDTH - 6 - ((now - time) / span) * (WIDTH - 6 - LEFT);
    const y = (value) => floor - (value / most) * (floor - TOP);
    const parts = [
      svg("path", { class: "frame", d: `M${LEFT} ${TOP}H${WIDTH - 6}M${LEFT} ${floor}H${WIDTH - 6}` }),
      label(LEFT - 5, TOP + 4, this.text(most), "end"),
      label(LEFT - 5, floor + 4, this.text(0), "end"),
      label(LEFT, HEIGHT - 4, ago, "start"),
      label(WIDTH - 6, HEIGHT - 4, "now", "end"),
    ];
    let path = "";
    values.forEach((value, i) => {
      if (value === null) return;
      const begins = i === 0 || values[i - 1] === null;
      path += `${begins ? "M" : "L"}${x(points[i].time).toFixed(1)} ${y(value).toFixed(1)}`;
    });
    if (path) parts.push(svg("path", { class: "line", d: path }));
    if (last !== null) {
      parts.push(svg("circle", { class: "dot", cx: WIDTH - 6, cy: y(last).toFixed(1), r: 3 }));
    }
    this.svg.replaceChildren(...parts);
    this.now.textContent = last === null ? "–" : this.text(last);
    const said = known.length ? `now ${this.now.textContent}, at most ${this.text(Math.max(...known))}` : "nothing yet";
    this.svg.setAttribute("aria-label", `${this.name}: ${said}`);
  }
}

/** The smallest of 1, 2 and 5 times a power of ten that isn't below a value. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= value * (1 - 1e-9));
}

function svg(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function label(x, y, text, anchor) {
  const element = svg("text", { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
}
