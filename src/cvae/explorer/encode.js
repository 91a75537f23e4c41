// The lower part of the page: encode a drawing or a test image, under each class, and decode it as every class.
"use strict";

const BARS = 12; // classes at most in the order of the data; of more, the best are listed

class EncodePanel {
  // `onEncoded` is called with the latents and the class of each image that is encoded.
  constructor(model, network, images, onEncoded) {
    Object.assign(this, { model, network, images, onEncoded });
    this.strokes = [];
    this.image = null; // what is encoded
    this.under = null; // the class under which it is encoded, or null for the one with the lowest negative ELBO
    this.testImage = -1;
    this.input = new Picture(model, document.getElementById("input"));
    this.reconstruction = new Picture(model, document.getElementById("reconstruction"));
    this.redrawn = new ClassPictures(document.getElementById("redrawn"), model, (label) => this.encodeUnder(label));
    this.pad = document.getElementById("pad");
    [this.pad.height, this.pad.width] = model.shape.slice(0, 2).map((side) => Math.round((352 * side) / model.shape[1]));
    this.hint = document.getElementById("pad-hint");
    this.bars = document.getElementById("bars");
    this.verdict = document.getElementById("verdict");
    this.result = null;
    this.listen();
    this.takeTestImage(); // so that the page is not empty
  }

  listen() {
    const { pad, model } = this;
    const help = model.drawable ? "Draw with the mouse or a finger, or take a test image." : "Take a test image.";
    const under = "It is encoded under each class; the lower the negative ELBO, the better that class explains it.";
    document.getElementById("encode-help").textContent = model.labels ? `${help} ${under}` : help;
    document.getElementById("test-image").onclick = () => this.takeTestImage();
    if (!model.drawable) {
      document.getElementById("encode-title").textContent = "Encode an image";
      document.getElementById("pad-frame").hidden = document.getElementById("clear").hidden = true;
      return;
    }
    document.getElementById("clear").onclick = () => {
      this.strokes = [];
      this.start(null);
    };
    pad.classList.add("drawable");
    const place = (event) => [event.offsetX / pad.clientWidth, event.offsetY / pad.clientWidth];
    pad.onpointerdown = (event) => {
      event.preventDefault();
      pad.setPointerCapture(event.pointerId);
      this.strokes.push([place(event)]);
      this.drawn();
    };
    pad.onpointermove = (event) => {
      if (!pad.hasPointerCapture(event.pointerId)) return;
      this.strokes.at(-1).push(place(event));
      this.drawn();
    };
  }

  // Encode the next of the test images.
  takeTestImage() {
    this.testImage = (this.testImage + 1) % this.images.count;
    this.strokes = [];
    this.start(this.images.image(this.testImage));
  }

  // A stroke has become longer. Encode at most once for each frame.
  drawn() {
    if (this.strokes.length === 1 && this.strokes[0].length === 1) this.under = null;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (!this.strokes.length) return;
      const [height, width] = this.model.shape;
      this.image = imageOf(this.strokes, { height, width, glyph: this.model.glyph, binary: this.model.binary });
      this.encode();
    });
  }

  start(image) {
    this.image = image;
    this.under = null;
    this.encode();
  }

  encodeUnder(label) {
    this.under = label;
    this.encode();
  }

  encode() {
    const { model, network, image } = this;
    this.result = null;
    if (image) {
      const labels = model.labels ? model.classes.map((_, label) => label) : [0];
      const values = labels.map((label) => network.negativeElbo(image, label));
      const best = values.indexOf(Math.min(...values));
      const label = this.under ?? best;
      const { mu } = network.encode(image, label);
      this.result = { values, best, label, images: labels.map((each) => network.decode(mu, each)) };
      this.onEncoded(mu, label);
    }
    this.show();
  }

  // Show the drawing and the results; again after a change of colours. Nothing may change its size: the pad would move
  // below the pointer.
  show() {
    const { model, image, result } = this;
    this.showStrokes();
    this.hint.hidden = Boolean(this.strokes.length);
    this.input.show(image);
    this.reconstruction.show(result && result.images[model.labels ? result.label : 0]);
    if (model.labels) {
      this.redrawn.show(result && result.images, result && result.label);
      this.showBars();
    }
    this.verdict.textContent = result ? this.verdictOf(result) : "";
  }

  verdictOf({ values, best }) {
    const exactness = "This takes z = μ; the test figures sample z.";
    return this.model.labels
      ? `The model takes it for ${this.model.classes[best]}. ${exactness} Click a class to encode under it.`
      : `${values[best].toFixed(1)}. ${exactness}`;
  }

  showStrokes() {
    const { pad, strokes } = this;
    const context = pad.getContext("2d");
    context.clearRect(0, 0, pad.width, pad.height);
    context.strokeStyle = getComputedStyle(pad).color;
    const placed = strokes.map((stroke) => stroke.map(([x, y]) => [x * pad.width, y * pad.width]));
    drawStrokes(context, placed, pad.width / 14);
  }

  showBars() {
    const { model, result } = this;
    const values = result ? result.values : model.classes.map(() => 0);
    let order = values.map((_, i) => i);
    if (order.length > BARS) order = order.sort((a, b) => values[a] - values[b]).slice(0, BARS);
    const longest = Math.max(...order.map((i) => values[i]), 1e-9);
    const rows = order.map((i) => {
      const bar = element("span", { className: "bar" });
      bar.style.width = `${(100 * Math.max(values[i], 0)) / longest}%`;
      const row = element("button", { type: "button", disabled: !result, onclick: () => this.encodeUnder(i) });
      row.append(element("span", {}, model.classes[i]), bar, element("span", {}, result ? values[i].toFixed(1) : "–"));
      row.classList.toggle("best", result !== null && i === result.best);
      row.setAttribute("aria-pressed", result !== null && i === result.label);
      return row;
    });
    this.bars.replaceChildren(...rows);
  }
}
