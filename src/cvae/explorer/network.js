// The trained encoder and decoder, with the arithmetic of cvae/model.py, and the negative ELBO of cvae/objective.py.
"use strict";

function bytesFrom(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    bytes[i] = text.charCodeAt(i);
  }
  return bytes;
}

// Numbers are stored as the upper three of a float32's four bytes.
function floatsFrom(base64) {
  const stored = bytesFrom(base64);
  const bytes = new Uint8Array((stored.length / 3) * 4);
  for (let from = 0, to = 1; from < stored.length; from += 3, to += 4) {
    bytes[to] = stored[from];
    bytes[to + 1] = stored[from + 1];
    bytes[to + 2] = stored[from + 2];
  }
  return new Float32Array(bytes.buffer);
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const ACTIVATE = { none: (x) => x, relu: (x) => Math.max(x, 0), tanh: Math.tanh, sigmoid };

// activation(weight · x + bias + table[label]); without labels there is no table.
class Layer {
  constructor({ inputs, outputs, labels, activation, weights }) {
    const values = floatsFrom(weights);
    this.weight = values.subarray(0, inputs * outputs); // a row for each output
    this.bias = values.subarray(inputs * outputs, (inputs + 1) * outputs);
    this.table = labels ? values.subarray((inputs + 1) * outputs) : null; // a row for each label
    this.activate = ACTIVATE[activation];
  }

  apply(x, label) {
    const outputs = this.bias.length;
    const result = new Float32Array(outputs);
    for (let out = 0, at = 0; out < outputs; out++) {
      let sum = this.bias[out] + (this.table ? this.table[label * outputs + out] : 0);
      for (let i = 0; i < x.length; i++) {
        sum += this.weight[at++] * x[i];
      }
      result[out] = this.activate(sum);
    }
    return result;
  }
}

class Network {
  constructor({ network, likelihood, priorStd }) {
    this.encoder = network.encoder.map((layer) => new Layer(layer));
    this.decoder = network.decoder.map((layer) => new Layer(layer));
    this.likelihood = likelihood;
    this.priorStd = priorStd;
  }

  // The mean and the standard deviation of q(z|x,y). Values of an image x are from 0 to 1.
  encode(x, label) {
    const both = this.encoder.reduce((values, layer) => layer.apply(values, label), x);
    const latents = both.length / 2;
    return { mu: both.slice(0, latents), sigma: both.slice(latents).map(Math.exp) };
  }

  logits(z, label) {
    return this.decoder.reduce((values, layer) => layer.apply(values, label), z);
  }

  // The mean image of p(x|z,y), with values from 0 to 1.
  decode(z, label) {
    return this.logits(z, label).map(sigmoid);
  }

  // Reconstruction + KL in nats, with z = μ instead of samples of z; for the Gaussian, without its constant.
  negativeElbo(x, label) {
    const { mu, sigma } = this.encode(x, label);
    const logits = this.logits(mu, label);
    let total = 0;
    for (let i = 0; i < x.length; i++) {
      total +=
        this.likelihood === "gaussian"
          ? (sigmoid(logits[i]) - x[i]) ** 2
          : Math.max(logits[i], 0) - logits[i] * x[i] + Math.log1p(Math.exp(-Math.abs(logits[i])));
    }
    for (let i = 0; i < mu.length; i++) {
      total += (sigma[i] ** 2 + mu[i] ** 2) / (2 * this.priorStd ** 2) - Math.log(sigma[i] / this.priorStd) - 0.5;
    }
    return total;
  }
}

// Test images: their labels, pixels from 0 to 255, posterior means and standard deviations, one row for each image.
class TestImages {
  static async unpack({ points, shape, latents }) {
    const stored = new Blob([bytesFrom(points.images)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const pixels = new Uint8Array(await new Response(stored).arrayBuffer());
    return new TestImages(points, pixels, shape[0] * shape[1] * shape[2], latents);
  }

  constructor({ labels, mu, sigma }, pixels, imageDims, latents) {
    Object.assign(this, { labels, pixels, imageDims, latents, count: labels.length });
    this.allMu = floatsFrom(mu);
    this.allSigma = floatsFrom(sigma);
  }

  image(i) {
    return Float32Array.from(this.pixels.subarray(i * this.imageDims, (i + 1) * this.imageDims), (value) => value / 255);
  }

  mu(i) {
    return this.allMu.subarray(i * this.latents, (i + 1) * this.latents);
  }

  sigma(i) {
    return this.allSigma.subarray(i * this.latents, (i + 1) * this.latents);
  }
}
