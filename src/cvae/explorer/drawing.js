// Turn strokes into an image like those of the data: a digit scaled to a box of 20 × 20 pixels, and placed so that its
// centre of mass is the centre of the image (http://yann.lecun.com/exdb/mnist).
"use strict";

const FINE = 8; // strokes are drawn this many times larger, and averaged

const MOST = 6; // times: how much a drawing is enlarged at most, so that a dot stays one

// Return the image, with values from 0 to 1, of `strokes`: lists of points [x, y] as shares of the pad's width. `glyph`
// is the longer side of the box in pixels. Strokes are as thick as MNIST's, an eighth of the box, however large they
// were drawn.
function imageOf(strokes, { height, width, glyph, binary }) {
  const pen = glyph / 8;
  const points = strokes.flat();
  const [left, top] = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
  const [right, bottom] = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])));
  const scale = Math.min((glyph - pen) / Math.max(right - left, bottom - top), MOST * width);
  const middle = [(left + right) / 2, (top + bottom) / 2];
  const place = ([x, y]) => [(x - middle[0]) * scale + width / 2, (y - middle[1]) * scale + height / 2];
  const placed = strokes.map((stroke) => stroke.map(place));

  const mean = massCentre(inked(placed, pen, height, width), width);
  const box = [(right - left) * scale + pen, (bottom - top) * scale + pen];
  const room = [(width - box[0]) / 2, (height - box[1]) / 2]; // on either side
  const shift = [width / 2 - mean[0], height / 2 - mean[1]].map((by, axis) => {
    const most = Math.max(room[axis], 0);
    return Math.max(-most, Math.min(most, by));
  });
  const centred = placed.map((stroke) => stroke.map(([x, y]) => [x + shift[0], y + shift[1]]));
  const image = inked(centred, pen, height, width);
  return binary ? image.map((value) => (value > 0.5 ? 1 : 0)) : image;
}

// The centre of mass, [x, y], where the first pixel spans from 0 to 1.
function massCentre(image, width) {
  let [sum, x, y] = [0, 0, 0];
  image.forEach((value, i) => {
    sum += value;
    x += value * ((i % width) + 0.5);
    y += value * (Math.floor(i / width) + 0.5);
  });
  return [x / sum, y / sum];
}

function drawStrokes(context, strokes, pen) {
  Object.assign(context, { lineWidth: pen, lineCap: "round", lineJoin: "round" });
  for (const stroke of strokes) {
    const [[x, y], ...rest] = stroke;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + pen / 100, y); // a dot must have a length to be drawn
    for (const point of rest) {
      context.lineTo(...point);
    }
    context.stroke();
  }
}

// How much of each pixel the strokes cover.
function inked(strokes, pen, height, width) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width * FINE, height * FINE];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.scale(FINE, FINE);
  drawStrokes(context, strokes, pen);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const image = new Float32Array(height * width);
  for (let y = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++) {
      const alpha = data[(y * canvas.width + x) * 4 + 3];
      image[Math.floor(y / FINE) * width + Math.floor(x / FINE)] += alpha / 255 / FINE ** 2;
    }
  }
  return image;
}
