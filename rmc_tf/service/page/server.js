// What the page asks the service; addresses are relative, so that any host, port or prefix will do.

/** Returns the JSON of a response; throws an Error with the service's own line. */
async function json(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // no JSON: of a proxy, say
  }
  if (!response.ok || body === null) {
    throw new Error(body?.error ?? `the service answers ${response.status} ${response.statusText}`);
  }
  return body;
}

async function asked(address, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(address, options);
  } catch {
    throw new Error("the service can’t be reached; is it running?");
  }
  return json(response);
}

/** What the page has to know at first. */
export const about = () => asked("page/samples");

/** What the bare network answers to one or two images, nested lists [H][W][C] in [0, 1]. */
export const bare = async (images) => (await asked("page/bare", { images })).answers;

/** An image that PGD changed against the bare network. */
export const attack = (request) => asked("page/attack", request);

/** Rows of the stored images, by their numbers. */
export const rows = async (numbers) => (await asked(`page/rows?numbers=${numbers.join(",")}`)).rows;

/** What the defended network answers to one image. This moves its weights. */
export async function defended(model, image) {
  const request = { instances: [image], neighbours: true };
  return (await asked(`v1/models/${encodeURIComponent(model)}:predict`, request)).predictions[0];
}

/** The service's counters and gauges: {"name{labels}": number}. */
export async function metrics() {
  const response = await fetch("metrics");
  if (!response.ok) throw new Error(`the service answers ${response.status}`);
  return parsed(await response.text());
}

/** Reads Prometheus' text format: one sample a line, after comments. */
export function parsed(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const sample = /^([a-zA-Z_:][\w:]*(?:\{.*\})?)\s+(\S+)/.exec(line);
    if (sample) found[sample[1]] = Number(sample[2]);
  }
  return found;
}
