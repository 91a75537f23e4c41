// The latent plane: test images as points, the chosen point, and the path between two points. With one latent it is a
// strip, with one row for each class.
"use strict";

const NEAR = 9; // pixels from a point at which the pointer finds it
const STEPS = 50; // of an arrow key, from the centre to the border

class Plane {
  // `state` has z, axes, only (the class that is singled out, or null), hover, ends and path; see explorer.js.
  constructor(canvas, model, images, state) {
    Object.assign(this, { canvas, model, images, state, context: canvas.getContext("2d") });
    this.isStrip = model.latents === 1;
    canvas.classList.toggle("strip", this.isStrip);
    this.points = document.createElement("canvas"); // redrawn only if they change
    this.arrange();
  }

  // Place the points on the chosen axes.
  arrange() {
    const { images, model, state } = this;
    const classes = model.classes.length;
    let farthest = 2.5 * model.priorStd;
    this.places = Array.from({ length: images.count }, (_, i) => {
      const mu = images.mu(i);
      const place = state.axes.map((axis) => mu[axis]);
      farthest = Math.max(farthest, ...place.map(Math.abs));
      const jitter = 0.15 + 0.7 * ((i * 0.618) % 1);
      return this.isStrip ? [place[0], (images.labels[i] + jitter) / classes] : place;
    });
    this.reach = 1.1 * farthest; // what the border shows
    this.drawnFor = null;
  }

  // From latents to pixels of the page, relative to the canvas. A strip's second coordinate is from 0 to 1.
  toPixels([a, b]) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const x = ((a / this.reach + 1) / 2) * width;
    return [x, this.isStrip ? b * height : ((1 - b / this.reach) / 2) * height];
  }

  // The inverse; points outside are moved to the border.
  toLatents([x, y]) {
    const inside = (share) => (Math.max(0, Math.min(1, share)) * 2 - 1) * this.reach;
    const both = [inside(x / this.canvas.clientWidth), -inside(y / this.canvas.clientHeight)];
    return this.isStrip ? both.slice(0, 1) : both;
  }

  // How many pixels long a latent distance is.
  lengthOf(distance) {
    return (distance / this.reach / 2) * this.canvas.clientWidth;
  }

  // The nearest visible test image to a place in pixels, or null.
  nearest([x, y]) {
    let [found, least] = [null, NEAR ** 2];
    this.places.forEach((place, i) => {
      if (this.state.only !== null && this.images.labels[i] !== this.state.only) return;
      const [px, py] = this.toPixels(place);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) [found, least] = [i, distance];
    });
    return found;
  }

  draw() {
    const { canvas, context, state } = this;
    const density = window.devicePixelRatio || 1;
    const size = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * density));
    if (!size[0]) return; // in a hidden frame
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const [colour, background] = coloursOf(canvas).map((parts) => `rgb(${parts})`);
    const drawnFor = [...size, colour, state.only, this.reach].join();
    if (drawnFor !== this.drawnFor) {
      this.drawnFor = drawnFor;
      this.drawPoints(size, density, colour, background);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, ...size);
    context.drawImage(this.points, 0, 0);
    context.scale(density, density);
    if (state.path) this.drawPath(context, colour, background);
    if (state.hover !== null) this.drawPosterior(context, state.hover);
    this.drawChosen(context, colour, background);
  }

  drawPoints(size, density, colour, background) {
    [this.points.width, this.points.height] = size;
    const context = this.points.getContext("2d");
    context.scale(density, density);
    this.drawAxes(context, colour);
    const radius = this.images.count > 500 ? 2 : 3;
    this.places.forEach((place, i) => {
      const label = this.images.labels[i];
      const isFaint = this.state.only !== null && this.state.only !== label;
      context.globalAlpha = isFaint ? 0.06 : 0.6;
      context.fillStyle = colourOf(label);
      context.beginPath();
      context.arc(...this.toPixels(place), radius, 0, 2 * Math.PI);
      context.fill();
    });
    this.drawPrior(context, colour, background);
  }

  drawAxes(context, colour) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: 1, font: "11px system-ui, sans-serif" });
    const [zeroX, zeroY] = this.toPixels([0, 0]);
    context.globalAlpha = 0.15;
    context.strokeRect(zeroX, -9, 0, height + 18);
    if (!this.isStrip) context.strokeRect(-9, zeroY, width + 18, 0);
    context.globalAlpha = 0.7;
    for (const tick of ticks(this.reach)) {
      const [x, y] = this.toPixels([tick, tick]);
      context.textAlign = "center";
      context.fillText(short(tick), x, height - 4);
      context.textAlign = "left";
      if (!this.isStrip && tick !== 0) context.fillText(short(tick), 4, y + 4);
    }
    context.textAlign = "right";
    context.fillText(`z${subscript(this.state.axes[0])} →`, width - 4, height - 18);
    context.textAlign = "left";
    if (!this.isStrip) context.fillText(`↑ z${subscript(this.state.axes[1])}`, 4, 13);
  }

  drawPrior(context, colour, background) {
    const height = this.canvas.clientHeight;
    const edge = 2 * this.model.priorStd;
    Object.assign(context, { strokeStyle: colour, fillStyle: colour, globalAlpha: 0.6 });
    context.setLineDash([4, 4]);
    context.beginPath();
    if (this.isStrip) {
      for (const x of [-edge, edge].map((z) => this.toPixels([z, 0])[0])) {
        context.moveTo(x, 0);
        context.lineTo(x, height);
      }
    } else {
      context.arc(...this.toPixels([0, 0]), this.lengthOf(edge), 0, 2 * Math.PI);
    }
    context.stroke();
    context.setLineDash([]);
    const [x, y] = this.isStrip ? [this.toPixels([0, 0])[0], 14] : this.toPixels([0, -edge]);
    Object.assign(context, { strokeStyle: background, lineWidth: 4, globalAlpha: 0.9, textAlign: "center" });
    const words = this.isStrip ? "between the lines: 2 σ of the prior" : "2 σ of the prior";
    context.strokeText(words, x, y + 4);
    context.fillText(words, x, y + 4);
  }

  // The hovered image's posterior: an ellipse of one standard deviation, or a bar.
  drawPosterior(context, i) {
    const [x, y] = this.toPixels(this.places[i]);
    const sigma = this.state.axes.map((axis) => this.lengthOf(this.images.sigma(i)[axis]));
    context.globalAlpha = 1;
    Object.assign(context, { strokeStyle: colourOf(this.images.labels[i]), lineWidth: 2 });
    context.beginPath();
    context.ellipse(x, y, sigma[0], this.isStrip ? 3 : sigma[1], 0, 0, 2 * Math.PI);
    context.stroke();
  }

  drawPath(context, colour, background) {
    const ends = this.state.ends.map((z) => this.toPixels(this.isStrip ? [z[0], 0.5] : this.state.axes.map((a) => z[a])));
    Object.assign(context, { strokeStyle: colour, lineWidth: 1.5, font: "bold 11px system-ui, sans-serif" });
    context.beginPath();
    context.moveTo(...ends[0]);
    context.lineTo(...ends[1]);
    context.stroke();
    ends.forEach(([x, y], i) => {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(x, y, 8, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = background;
      context.textAlign = "center";
      context.fillText("AB"[i], x, y + 4);
    });
  }

  drawChosen(context, colour, background) {
    const { z, axes } = this.state;
    const [x, y] = this.toPixels(this.isStrip ? [z[0], 0.5] : axes.map((axis) => z[axis]));
    if (this.isStrip) {
      Object.assign(context, { strokeStyle: colour, lineWidth: 2 });
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, this.canvas.clientHeight);
      context.stroke();
    }
    context.beginPath();
    context.arc(x, y, 8, 0, 2 * Math.PI);
    Object.assign(context, { fillStyle: background, strokeStyle: background, lineWidth: 5 });
    context.stroke();
    context.fill();
    Object.assign(context, { fillStyle: colour, strokeStyle: colour, lineWidth: 2.5 });
    context.stroke();
    context.beginPath();
    context.arc(x, y, 3, 0, 2 * Math.PI);
    context.fill();
  }
}

// Round numbers between ±reach, two to four on either side of 0.
function ticks(reach) {
  const least = reach / 4.5;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= least);
  const count = Math.floor((0.92 * reach) / step); // no text crosses the border
  return Array.from({ length: 2 * count + 1 }, (_, i) => (i - count) * step);
}

function short(value) {
  return String(Number(value.toPrecision(2))).replace("-", "−");
}

function subscript(number) {
  return String(number).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
}
