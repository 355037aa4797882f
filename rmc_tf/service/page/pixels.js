// Images: Float32Arrays of H·W·C numbers in [0, 1], from and to what is sent, drawn and uploaded.

/** Returns the bytes of a base64 text. */
function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** An image from the base64 form of its 8-bit pixels. */
export const fromEightBits = (text) => Float32Array.from(bytes(text), (value) => value / 255);

/** An image from the base64 form of its float32 numbers, little-endian. */
export function fromFloats(text) {
  const given = bytes(text);
  const view = new DataView(given.buffer);
  return Float32Array.from({ length: given.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

/** Returns an image as the protocol takes it: nested lists [H][W][C]. */
export function nested(image, [height, width, channels]) {
  const rows = [];
  for (let y = 0; y < height; y++) {
    const row = [];
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * channels;
      row.push(Array.from(image.subarray(at, at + channels)));
    }
    rows.push(row);
  }
  return rows;
}

/** Draws an image on a canvas, one pixel a pixel; CSS gives the canvas its size. */
export function paint(canvas, image, [height, width, channels]) {
  canvas.width = width;
  canvas.height = height;
  canvas.classList.toggle("crisp", Math.max(height, width) <= 96);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      pixels.data[4 * i + c] = Math.round(255 * image[i * channels + (channels >= 3 ? c : 0)]);
    }
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

/** A new canvas with an image on it, and what it shows in words. */
export function painted(image, shape, words) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", words);
  paint(canvas, image, shape);
  return canvas;
}

/** The largest change of a pixel. */
export const furthest = (image, other) => image.reduce((most, v, i) => Math.max(most, Math.abs(v - other[i])), 0);

/** Returns b − a as an image: grey where nothing changed, and white and black at the largest change. */
export function difference(a, b) {
  const most = furthest(a, b) || 1;
  return a.map((value, i) => 0.5 + (b[i] - value) / (2 * most));
}

/** Returns the pixels of a larger canvas, each the mean of those that it covers. */
export function shrunk(source, [height, width, channels]) {
  const { data } = source.getContext("2d").getImageData(0, 0, source.width, source.height);
  const image = new Float32Array(height * width * channels);
  const across = source.width / width;
  const down = source.height / height;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const sums = [0, 0, 0];
      let count = 0;
      for (let v = Math.floor(y * down); v < Math.max((y + 1) * down, Math.floor(y * down) + 1); v++) {
        for (let u = Math.floor(x * across); u < Math.max((x + 1) * across, Math.floor(x * across) + 1); u++) {
          const at = 4 * (v * source.width + u);
          for (let c = 0; c < 3; c++) sums[c] += data[at + c];
          count += 1;
        }
      }
      // Rounded to 8 bits, as every other image that the network is shown.
      for (let c = 0; c < channels; c++) {
        image[(y * width + x) * channels + c] = Math.round(sums[c] / count) / 255;
      }
    }
  }
  return image;
}

/** Returns the middle of a picture file as an image of the network's size. */
export async function ofFile(file, shape) {
  const [height, width] = shape;
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name}: no picture that this browser can open; try a PNG or a JPEG`);
  }
  // Four times too large at first, so that the mean of each pixel's share is of many.
  const canvas = document.createElement("canvas");
  canvas.width = 4 * width;
  canvas.height = 4 * height;
  const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  const size = [picture.width * scale, picture.height * scale];
  context.drawImage(picture, (canvas.width - size[0]) / 2, (canvas.height - size[1]) / 2, ...size);
  return shrunk(canvas, shape);
}
