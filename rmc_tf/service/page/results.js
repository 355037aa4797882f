// What came out: the images, four answers, how the defence came to them, and its neighbours.

import { difference, fromEightBits, furthest, painted } from "./pixels.js";

const MOST_BARS = 10; // of a network of more classes, the likeliest
const byId = (id) => document.getElementById(id);
const decimals = (value, digits = 2) => value.toLocaleString("en", { maximumFractionDigits: digits });
const seconds = (value) => (value > 0 && value < 0.001 ? "<\u00a00.001" : decimals(value, 3));
const percent = (value) => (value > 0 && value < 0.005 ? "<\u00a01\u00a0%" : `${Math.round(100 * value)}\u00a0%`);

const WHY = {
  adapted: "yes",
  deadline: "no: the time was too short, so the network answered as it was when the service began",
  stopping: "no: the service stops, so the network answered as it was when the service began",
  error: "no: the adaptation failed, so the network answered as it was when the service began",
};

const PARTS = [
  ["queued", "waiting in the queue"],
  ["calibrated", "finishing the query before"],
  ["searched", "looking up stored images"],
  ["adapted", "training on them"],
  ["answered", "answering"],
  ["total", "in all"],
];

/** Makes an element with a class, and texts or elements in it. */
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/**
 * Shows what is there of a result: {shape, classes, label, known, moved, clean, attacked}; the last
 * two are {image, bare, defended}, where an answer that isn't there yet is null.
 */
export function show(result) {
  byId("results").hidden = false;
  pictures(result);
  const panels = [];
  for (const [side, image] of [["clean", "Clean image"], ["attacked", "Attacked image"]]) {
    for (const network of ["bare", "defended"]) {
      panels.push(panel(`${image}, ${network} network`, result[side][network], result, `${side}-${network}`));
    }
  }
  byId("answers").replaceChildren(...panels);
  byId("answers").classList.toggle("long", result.classes.some((name) => name.length > 3));
  byId("stuck").hidden = result.moved;
  byId("verdict").replaceChildren(...verdict(result));
  details(result);
}

function pictures({ clean, attacked, shape }) {
  const most = furthest(clean.image, attacked.image);
  const figure = (image, caption) =>
    element("figure", "picture", painted(image, shape, caption), element("figcaption", "", caption));
  byId("pictures").replaceChildren(
    figure(clean.image, "Clean"),
    figure(attacked.image, "Attacked"),
    figure(
      difference(clean.image, attacked.image),
      `Difference: grey is none, white +${decimals(most, 3)}, black −${decimals(most, 3)}`,
    ),
  );
}

/** Whether an answer is what the image shows, or is refused, in a word. */
function judged(answer, { label, known }) {
  if (answer.refused) return { right: false, word: "refused" };
  const right = answer.label === label;
  return { right, word: known ? (right ? "right" : "wrong") : right ? "not misled" : "misled" };
}

function panel(title, answer, result, id) {
  const box = element("div", "answer", element("h3", "", title));
  box.id = id;
  if (!answer) {
    box.append(element("p", "says note", "is asked …"));
    return box;
  }
  const { right, word } = judged(answer, result);
  const sign = right ? "✓" : "✗";
  box.append(element("p", "says", "says ", element("b", "", answer.class ?? "nothing"), " ",
    element("span", right ? "right" : "wrong", answer.refused ? word : `${sign} ${word}`)));
  const classes = answer.probabilities.map((probability, label) => ({ probability, label }));
  if (classes.length > MOST_BARS) {
    classes.sort((one, other) => other.probability - one.probability).splice(MOST_BARS);
  }
  const bars = classes.map(({ probability, label }) => {
    const top = label === answer.label;
    const fill = element("div", "fill");
    fill.style.width = `${100 * probability}%`;
    const track = element("div", "track", fill);
    track.setAttribute("aria-hidden", "true");
    return element("li", top ? `top ${right ? "right" : "wrong"}` : "",
      element("span", "", result.classes[label]), track, element("span", "share", percent(probability)));
  });
  box.append(element("ul", "bars", ...bars));
  return box;
}

function verdict(result) {
  const { bare, defended } = result.attacked;
  if (!defended) return [`The bare network says ${bare.class}; the defended one is adapting …`];
  const says = (answer) => {
    const { right, word } = judged(answer, result);
    return [element("b", "", answer.class ?? "nothing"), " ", element("span", right ? "right" : "wrong", `(${word})`)];
  };
  return ["Of the attacked image the bare network says ", ...says(bare),
    " and the defended network says ", ...says(defended), "."];
}

function details(result) {
  const sides = ["clean", "attacked"];
  const answers = sides.map((side) => result[side].defended);
  const loss = (answer) => {
    if (!answer) return "…";
    const value = -Math.log(Math.max(answer.probabilities[result.label], 1e-30));
    return value < 0.005 ? "<\u00a00.01" : decimals(value);
  };
  const row = (title, of) => {
    const head = element("th", "", title);
    head.scope = "row";
    return element("tr", "", head, ...answers.map((answer) => element("td", "", answer ? of(answer) : "…")));
  };
  const parts = PARTS.filter(([part]) => answers.some((answer) => answer && part in answer.seconds));
  const rows = [
    row("Has it adapted?", (answer) => WHY[answer.why] ?? answer.why),
    row("Training steps", (answer) => String(answer.steps)),
    row("Loss of the defended network", loss),
    ...parts.map(([part, text]) =>
      row(`Seconds ${text}`, (answer) => (part in answer.seconds ? seconds(answer.seconds[part]) : "–"))),
    ...(answers.some((answer) => answer?.radius)
      ? [row("Certified radius (L2)", (answer) => decimals(answer.radius ?? 0, 3))]
      : []),
    row("State of the weights (its number)", (answer) => String(answer.state_version)),
  ];
  const bare = element("tr", "", element("th", "", "Loss of the bare network"),
    ...sides.map((side) => element("td", "", loss(result[side].bare))));
  bare.firstChild.scope = "row";
  rows.splice(3, 0, bare);
  const columns = ["", "Clean", "Attacked"].map((text) => element(text ? "th" : "td", "", text));
  columns.slice(1).forEach((head) => (head.scope = "col"));
  byId("details").replaceChildren(
    element("thead", "", element("tr", "", ...columns)),
    element("tbody", "", ...rows),
  );
}

/** Shows rows of the stored images, nearest first; none where nothing was looked up. */
export function neighbours(rows, { k, rows: stored, image_shape: shape }) {
  const words = (kind) => {
    if (kind === "benign") return "original";
    return kind === "removed" ? "removed since" : `made by ${kind}`;
  };
  const tiles = rows.map(({ pixels, class: name, kind }) =>
    element("li", "",
      painted(fromEightBits(pixels), shape, `stored image of ${name}`),
      element("span", "", element("b", "", name)),
      element("span", kind === "benign" ? "kind" : "kind made", words(kind))));
  byId("neighbours").replaceChildren(...tiles);
  byId("neighbours-note").textContent = rows.length
    ? `The ${rows.length} nearest of the ${k.toLocaleString("en")} that it trained on, out of ` +
      `${stored.toLocaleString("en")} stored ones, with their labels. “Original” is a training image as it was ` +
      "collected; the others were made of such images by the attack that is named."
    : "None were looked up for this answer.";
}
