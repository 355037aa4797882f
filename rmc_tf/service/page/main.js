// The page: choose an image, attack it, see what both networks answer.

import { watch } from "./charts.js";
import { offer } from "./input.js";
import { fromFloats, nested, paint } from "./pixels.js";
import { neighbours, show } from "./results.js";
import * as server from "./server.js";

const SHOWN = 12; // neighbours
const byId = (id) => document.getElementById(id);

function fail(error) {
  byId("error").textContent = error.message;
  byId("error").hidden = false;
}

/** Fills in what the form asks for. */
function fill(about) {
  const { image_shape: [height, width, channels], classes, epsilon } = about;
  const colours = channels === 1 ? "grey" : channels === 3 ? "colour" : `${channels}-channel`;
  byId("about").textContent =
    `The network here sees ${colours} images of ${height} × ${width} pixels, and tells ${classes.length} classes apart. ` +
    (about.k
      ? `Its defence has ${about.rows.toLocaleString("en")} stored images, and trains on ${about.k.toLocaleString("en")} for an answer.`
      : "Its defence looks up no stored images.");
  byId("label").replaceChildren(
    new Option("I don’t say: what the bare network sees", ""),
    ...classes.map((name, label) => new Option(name, String(label))),
  );
  byId("epsilon").value = epsilon;
  const from = {
    attacks: "That of the attacks that the defence knows",
    rows: "That of the attacked images that the defence has stored",
    default: "What is usual for photos",
  };
  byId("epsilon-note").textContent = `From 0.001 to 1, where black to white is 1. ${from[about.epsilon_source]}: ${epsilon}.`;
  byId("iterations").max = about.most_iterations;
  byId("iterations").value = about.iterations;
}

/** Attacks an image, and asks both networks, showing each answer as it comes. */
async function run(about, image, progress) {
  const shape = about.image_shape;
  const label = byId("label").value === "" ? null : Number(byId("label").value);
  progress("Making the attack …");
  const made = await server.attack({
    image: nested(image, shape),
    label,
    epsilon: Number(byId("epsilon").value),
    iterations: Number(byId("iterations").value),
  });
  const attacked = fromFloats(made.image);
  const images = [image, attacked].map((each) => nested(each, shape));
  progress("Asking the bare network …");
  const [bareClean, bareAttacked] = await server.bare(images);
  const result = {
    shape,
    classes: about.classes,
    label: made.label,
    known: label !== null,
    moved: made.moved,
    clean: { image, bare: bareClean, defended: null },
    attacked: { image: attacked, bare: bareAttacked, defended: null },
  };
  show(result);
  byId("results").scrollIntoView({ block: "start" });
  neighbours([], about);
  byId("neighbours-note").textContent = "They are being looked up …";
  progress("The defended network adapts to the attacked image …");
  result.attacked.defended = await server.defended(about.model, images[1]);
  show(result);
  const numbers = result.attacked.defended.neighbours.slice(0, SHOWN);
  neighbours(numbers.length ? await server.rows(numbers) : [], about);
  progress("And to the clean image …");
  result.clean.defended = await server.defended(about.model, images[0]);
  show(result);
}

async function begin() {
  watch(byId("charts"), byId("state"));
  const about = await server.about();
  let image = null;
  let working = false;
  const ready = () => {
    byId("attack").disabled = working || image === null;
  };
  fill(about);
  paint(byId("chosen"), new Float32Array(about.image_shape.reduce((a, b) => a * b)), about.image_shape);
  offer(about, (chosen, label, name) => {
    image = chosen;
    byId("error").hidden = true;
    paint(byId("chosen"), image, about.image_shape);
    byId("chosen").setAttribute("aria-label", name);
    byId("chosen-name").textContent = name;
    byId("label").value = label === null ? "" : String(label);
    ready();
  }, fail);
  byId("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (working || image === null) return;
    working = true;
    ready();
    byId("error").hidden = true;
    try {
      await run(about, image, (text) => (byId("progress").textContent = text));
      byId("progress").textContent = "Done.";
    } catch (error) {
      byId("progress").textContent = "";
      fail(error);
      byId("error").scrollIntoView({ block: "center" });
    }
    working = false;
    ready();
  });
}

begin().catch(fail);
