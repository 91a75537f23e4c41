// Images on canvases, in the colours of the page.
"use strict";

const TAB10 = ["#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"];

// The colour of a class: as in the other pictures for the first ten, then around the colour wheel.
function colourOf(label) {
  return TAB10[label] ?? `hsl(${(label * 137.5) % 360} 60% 50%)`;
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  Object.assign(made, attributes);
  made.append(...children);
  return made;
}

// The colour of the text and of the background of an element, each as [red, green, blue].
function coloursOf(shown) {
  const style = getComputedStyle(shown);
  return [style.color, style.backgroundColor].map((colour) => colour.match(/[\d.]+/g).slice(0, 3).map(Number));
}

// A canvas for images of one shape. Its CSS class decides how large they appear.
class Picture {
  constructor({ shape, ink }, canvas = document.createElement("canvas")) {
    this.canvas = canvas;
    [canvas.height, canvas.width, this.channels] = shape;
    canvas.classList.add("picture");
    this.ink = ink; // high values are ink, in the colour of the text; otherwise images are shown as they are
    this.context = canvas.getContext("2d");
    this.pixels = this.context.createImageData(canvas.width, canvas.height);
  }

  // Show an image with values from 0 to 1, or nothing.
  show(image) {
    this.image = image;
    if (!image) {
      this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      return;
    }
    const [high, low] = this.ink ? coloursOf(this.canvas) : [[255, 255, 255], [0, 0, 0]];
    const { data } = this.pixels;
    for (let i = 0, to = 0; to < data.length; i += this.channels, to += 4) {
      for (let c = 0; c < 3; c++) {
        const value = image[this.channels === 3 ? i + c : i];
        data[to + c] = low[c] + value * (high[c] - low[c]);
      }
      data[to + 3] = 255;
    }
    this.context.putImageData(this.pixels, 0, 0);
  }
}

// One picture for each class, as buttons.
class ClassPictures {
  constructor(container, model, onChoose) {
    container.classList.toggle("few", model.classes.length <= 10);
    this.tiles = model.classes.map((name, label) => {
      const picture = new Picture(model);
      const dot = element("i");
      dot.style.background = colourOf(label);
      const caption = element("span", {}, dot, name);
      const button = element("button", { type: "button", title: name, onclick: () => onChoose(label) });
      button.append(picture.canvas, caption);
      container.append(button);
      return { button, picture };
    });
  }

  show(images, chosen) {
    this.tiles.forEach(({ button, picture }, label) => {
      picture.show(images && images[label]);
      button.setAttribute("aria-pressed", label === chosen);
    });
  }
}
