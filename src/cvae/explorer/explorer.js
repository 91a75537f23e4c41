// The page: what is chosen, what the pointer and the keys do, and what is shown.
"use strict";

const AWAY = 22; // pixels between a point and the note about it
const STILL = 3; // pixels that the pointer may move in a click
const TURN = 3000; // milliseconds from one end of the path to the other

class Explorer {
  constructor(model, network, images) {
    Object.assign(this, { model, network, images });
    const axes = this.widestLatents(Math.min(2, model.latents));
    const end = (side) => Float32Array.from({ length: model.latents }, (_, i) => (axes.includes(i) ? side : 0));
    this.state = {
      z: end(0), // the point
      label: 0, // the class it is decoded as
      axes, // the latents that the plane shows
      only: null, // the class whose test images are singled out
      hover: null, // the test image below the pointer
      ends: [end(-1.5 * model.priorStd), end(1.5 * model.priorStd)], // of the path
      path: false, // whether it is shown
    };
    this.plane = new Plane(document.getElementById("plane"), model, images, this.state);
    this.image = new Picture(model, document.getElementById("image"));
    this.hovered = new Picture(model, document.getElementById("hover-image"));
    this.hoveredReconstruction = new Picture(model, document.getElementById("hover-reconstruction"));
    this.classes = new ClassPictures(document.getElementById("classes"), model, (label) => this.choose(label));
    document.body.classList.toggle("without-labels", !model.labels);
    this.encoding = new EncodePanel(model, network, images, (z, label) => this.goTo(z, label));
    this.makeLegend();
    this.makeAxes();
    this.makeSliders();
    this.listenToPointer();
    this.listenToKeys();
    this.listenToPath();
    this.listenToTheme();
    new ResizeObserver(() => this.redraw()).observe(this.plane.canvas);
  }

  // The latents whose means vary most over the test images, in order.
  widestLatents(count) {
    const spread = Array.from({ length: this.model.latents }, (_, latent) => {
      const values = Array.from({ length: this.images.count }, (_, i) => this.images.mu(i)[latent]);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      return { latent, variance: values.reduce((sum, value) => sum + (value - mean) ** 2, 0) };
    });
    const widest = spread.sort((a, b) => b.variance - a.variance).slice(0, count);
    return widest.map(({ latent }) => latent).sort((a, b) => a - b);
  }

  choose(label) {
    this.state.label = label;
    this.redraw();
  }

  goTo(z, label = this.state.label) {
    this.state.z = Float32Array.from(z);
    this.choose(label);
  }

  // Move the point on the plane; the other latents stay.
  goToPlace(place) {
    this.state.axes.forEach((axis, i) => {
      this.state.z[axis] = place[i];
    });
    this.redraw();
  }

  // Draw everything once before the next frame.
  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const { model, network, state } = this;
    const { z, label, axes } = state;
    this.plane.draw();
    if (model.labels) {
      const images = model.classes.map((_, each) => network.decode(z, each));
      this.classes.show(images, label);
      this.image.show(images[label]);
    } else {
      this.image.show(network.decode(z, 0));
    }
    const values = axes.map((axis) => `z${subscript(axis)} = ${signed(z[axis])}`);
    const named = model.labels ? [`class ${model.classes[label]}`] : [];
    document.getElementById("where").textContent = [...values, ...named].join(", ");
    for (const { latent, input, output } of this.sliders) {
      input.value = z[latent];
      output.textContent = signed(z[latent]);
    }
  }

  // Buttons that single out the test images of one class.
  makeLegend() {
    const buttons = this.model.classes.map((name, label) => {
      const dot = element("i");
      dot.style.background = colourOf(label);
      const button = element("button", { type: "button", title: `Only the test images of class ${name}` }, dot, name);
      button.onclick = () => {
        this.state.only = this.state.only === label ? null : label;
        buttons.forEach((each, i) => each.setAttribute("aria-pressed", i === this.state.only));
        this.redraw();
      };
      return button;
    });
    document.getElementById("legend").append(...buttons);
  }

  makeAxes() {
    const { model, state } = this;
    if (model.latents <= 2) return;
    document.getElementById("axes").hidden = false;
    const choices = [0, 1].map((i) => document.getElementById(`axis-${i}`));
    choices.forEach((choice, i) => {
      choice.append(...Array.from({ length: model.latents }, (_, latent) => new Option(`z${subscript(latent)}`, latent)));
      choice.value = state.axes[i];
      choice.onchange = () => {
        const before = state.axes[i];
        state.axes[i] = Number(choice.value);
        if (state.axes[1 - i] === state.axes[i]) state.axes[1 - i] = before;
        choices.forEach((each, k) => (each.value = state.axes[k]));
        state.hover = null;
        this.plane.arrange();
        this.makeSliders();
        this.redraw();
      };
    });
  }

  // A slider for each latent that is not an axis of the plane.
  makeSliders() {
    const { model, state } = this;
    const limit = 4 * model.priorStd;
    const others = Array.from({ length: model.latents }, (_, latent) => latent).filter((i) => !state.axes.includes(i));
    this.sliders = others.map((latent) => {
      const input = element("input", { type: "range", min: -limit, max: limit, step: "any" });
      const output = element("output");
      input.oninput = () => {
        state.z[latent] = Number(input.value);
        this.redraw();
      };
      return { latent, input, output, row: element("label", {}, `z${subscript(latent)}`, input, output) };
    });
    const container = document.getElementById("sliders");
    container.hidden = !others.length;
    container.replaceChildren(...this.sliders.map(({ row }) => row));
  }

  listenToPointer() {
    const { plane, state } = this;
    const { canvas } = plane;
    const place = (event) => [event.offsetX, event.offsetY];
    let pressed = null; // where the pointer went down, until it moves from there
    canvas.onpointerdown = (event) => {
      this.pause();
      canvas.setPointerCapture(event.pointerId);
      pressed = place(event);
      const found = plane.nearest(place(event));
      if (found === null) this.goToPlace(plane.toLatents(place(event)));
      else this.goTo(this.images.mu(found));
    };
    canvas.onpointermove = (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) {
        this.hoverOver(null);
        const [x, y] = place(event);
        if (pressed && Math.hypot(x - pressed[0], y - pressed[1]) < STILL) return;
        pressed = null;
        this.goToPlace(plane.toLatents([x, y]));
      } else {
        this.hoverOver(plane.nearest(place(event)));
      }
    };
    canvas.onpointerleave = () => this.hoverOver(null);
  }

  // Show a test image, its reconstruction and its posterior beside its point; or hide them.
  hoverOver(found) {
    const { model, network, images, plane, state } = this;
    if (found === state.hover) return;
    state.hover = found;
    const note = document.getElementById("hover");
    note.hidden = found === null;
    if (found !== null) {
      const label = images.labels[found];
      this.hovered.show(images.image(found));
      this.hoveredReconstruction.show(network.decode(images.mu(found), label));
      const sigma = state.axes.map((axis) => images.sigma(found)[axis].toFixed(2)).join(", ");
      document.getElementById("hover-text").textContent = `${model.classes[label]}, σ = ${sigma}`;
      this.placeBeside(note, plane.toPixels(plane.places[found]));
    }
    this.redraw();
  }

  // Place the note above or below a point of the plane, so that it covers neither the point nor the page's border.
  placeBeside(note, [x, y]) {
    const { clientWidth: width, clientHeight: height } = this.plane.canvas;
    const left = Math.max(0, Math.min(x - note.offsetWidth / 2, width - note.offsetWidth));
    const top = y < height / 2 ? y + AWAY : y - AWAY - note.offsetHeight;
    Object.assign(note.style, { left: `${left}px`, top: `${top}px` });
  }

  listenToKeys() {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
      const { model, state, plane } = this;
      const focused = document.activeElement;
      if (event.key in steps && (focused === document.body || focused.closest("#latents, #decoded"))) {
        event.preventDefault();
        this.pause();
        const size = (plane.reach / STEPS) * (event.shiftKey ? 5 : 1);
        const limit = (value) => Math.max(-plane.reach, Math.min(plane.reach, value));
        this.goToPlace(state.axes.map((axis, i) => limit(state.z[axis] + steps[event.key][i] * size)));
      } else if (model.labels && /^\d$/.test(event.key)) {
        const named = model.classes.indexOf(event.key);
        const label = named >= 0 ? named : Number(event.key);
        if (label < model.classes.length) this.choose(label);
      }
    });
  }

  listenToPath() {
    const { state } = this;
    const position = document.getElementById("position");
    const setEnd = (i) => () => {
      this.pause();
      state.ends[i] = Float32Array.from(state.z);
      state.path = true;
      position.value = i;
      this.redraw();
    };
    document.getElementById("set-a").onclick = setEnd(0);
    document.getElementById("set-b").onclick = setEnd(1);
    position.oninput = () => {
      this.pause();
      this.goAlongPath(Number(position.value));
    };
    document.getElementById("play").onclick = () => (this.playing ? this.pause() : this.play());
  }

  // Go to a point of the path: A at 0, B at 1.
  goAlongPath(share) {
    const [a, b] = this.state.ends;
    this.state.path = true;
    this.goTo(a.map((value, i) => value + share * (b[i] - value)));
  }

  // Go back and forth between A and B.
  play() {
    const position = document.getElementById("position");
    const began = performance.now() - Number(position.value) * TURN;
    const step = (now) => {
      const turns = Math.max(0, now - began) / TURN;
      position.value = turns % 2 < 1 ? turns % 1 : 1 - (turns % 1);
      this.goAlongPath(Number(position.value));
      this.playing = requestAnimationFrame(step);
    };
    document.getElementById("play").textContent = "❚❚ Pause";
    this.playing = requestAnimationFrame(step);
  }

  pause() {
    cancelAnimationFrame(this.playing);
    this.playing = null;
    document.getElementById("play").textContent = "▶ Play A–B";
  }

  listenToTheme() {
    const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
    const root = document.documentElement;
    const show = () => {
      this.encoding.show();
      this.redraw();
    };
    systemIsDark.onchange = show;
    document.getElementById("theme").onclick = () => {
      const isDark = root.style.colorScheme ? root.style.colorScheme === "dark" : systemIsDark.matches;
      root.style.colorScheme = isDark ? "light" : "dark";
      show();
    };
  }
}

function signed(value) {
  return value.toFixed(2).replace("-", "−");
}

const model = JSON.parse(document.getElementById("data").textContent);
const network = new Network(model);
let explorer;
TestImages.unpack(model).then((images) => {
  document.querySelector("main").removeAttribute("aria-busy");
  explorer = new Explorer(model, network, images);
});
