// How a visitor comes to an image: one of the samples, a drawing, or a picture of their own.

import { fromEightBits, ofFile, painted, shrunk } from "./pixels.js";

const byId = (id) => document.getElementById(id);

/**
 * Shows the ways that this network has; `choose(image, label, name)` is told of each new image. The
 * label is null where nobody but the visitor knows it.
 */
export function offer(about, choose, fail) {
  const shape = about.image_shape;
  const buttons = samples(about, choose);
  const released = () => buttons.forEach((button) => button.setAttribute("aria-pressed", "false"));
  const other = (image, name) => {
    released();
    choose(image, null, name);
  };
  if (shape[2] === 1) {
    byId("draw-way").hidden = false;
    drawing(shape, (image) => other(image, "Your drawing"));
  }
  if (shape[2] === 3) {
    byId("upload-way").hidden = false;
    byId("upload").addEventListener("change", async (event) => {
      const [file] = event.target.files;
      if (!file) return;
      try {
        other(await ofFile(file, shape), file.name);
      } catch (error) {
        fail(error);
      }
    });
  }
}

function samples(about, choose) {
  byId("sample-way").hidden = about.samples.length === 0;
  const buttons = about.samples.map((sample) => {
    const image = fromEightBits(sample.pixels);
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(painted(image, about.image_shape, "sample"), sample.class);
    button.addEventListener("click", () => {
      buttons.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
      choose(image, sample.label, `Sample, labelled ${sample.class}`);
    });
    return button;
  });
  byId("samples").replaceChildren(...buttons);
  return buttons;
}

/** A pad: white on black, by mouse, finger, pen or keyboard; `drawn(image)` after each stroke. */
function drawing(shape, drawn) {
  const [height, width] = shape;
  const pad = byId("pad");
  const unit = Math.max(1, Math.round(320 / Math.max(height, width))); // of the pad, a pixel of the image
  pad.width = width * unit;
  pad.height = height * unit;
  const ink = document.createElement("canvas"); // without the keyboard's mark
  ink.width = pad.width;
  ink.height = pad.height;
  const pen = ink.getContext("2d", { willReadFrequently: true });
  const shown = pad.getContext("2d");
  const cursor = { x: pad.width / 2, y: pad.height / 2, down: false, used: false };
  let last = null;

  const show = () => {
    shown.drawImage(ink, 0, 0);
    if (!cursor.used || document.activeElement !== pad) return;
    shown.strokeStyle = cursor.down ? "#ffb454" : "#7cb7ff";
    shown.lineWidth = 4;
    shown.strokeRect(cursor.x - unit / 2, cursor.y - unit / 2, unit, unit);
  };
  const clear = () => {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, ink.width, ink.height);
    cursor.down = false;
    show();
  };
  const line = (from, to) => {
    pen.strokeStyle = "#fff";
    pen.lineWidth = Math.max(1.2 * unit, 0.09 * ink.width);
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y + 0.01); // a point is a line, too
    pen.stroke();
    show();
  };
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) * pad.width) / box.width,
      y: ((event.clientY - box.top) * pad.height) / box.height,
    };
  };
  const done = () => drawn(shrunk(ink, shape));

  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    cursor.used = false;
    last = place(event);
    line(last, last);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = place(event);
    line(last, next);
    last = next;
  });
  for (const end of ["pointerup", "pointercancel"]) {
    pad.addEventListener(end, () => {
      if (last) done();
      last = null;
    });
  }
  pad.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (!step && event.key !== " ") return;
    event.preventDefault();
    cursor.used = true;
    const before = { x: cursor.x, y: cursor.y };
    if (step) {
      const within = (value, most) => Math.min(most - unit / 2, Math.max(unit / 2, value));
      cursor.x = within(cursor.x + (step[0] * unit) / 2, pad.width);
      cursor.y = within(cursor.y + (step[1] * unit) / 2, pad.height);
    } else {
      cursor.down = !cursor.down;
    }
    if (cursor.down) {
      line(before, cursor);
      done();
    }
    show();
  });
  for (const change of ["focus", "blur"]) pad.addEventListener(change, show);
  byId("clear").addEventListener("click", clear);
  clear();
}
