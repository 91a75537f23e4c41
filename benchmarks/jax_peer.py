"""A peer for benchmarks.training: the article's model in JAX, compiled, with automatic gradients.

JAX is not among the requirements: `pip install jax`. It computes on all cores, whatever `--threads` says.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.inputs import Inputs

BETA1, BETA2, EPSILON, RATE = 0.9, 0.999, 1e-8, 1e-3  # of Adam


def layer(weights: tuple, x: jax.Array) -> jax.Array:
    matrix, bias = weights
    return x @ matrix + bias


def loss(weights: dict, x: jax.Array, y: jax.Array, noise: jax.Array) -> jax.Array:
    hidden = jax.nn.relu(layer(weights["encoder"], jnp.concatenate((x, y), axis=1)))
    mu, log_sigma = jnp.split(layer(weights["posterior"], hidden), 2, axis=1)
    sigma = jnp.exp(log_sigma)
    z = mu + sigma * noise
    hidden = jax.nn.sigmoid(layer(weights["decoder"], jnp.concatenate((z, y), axis=1)))
    x_hat = jax.nn.sigmoid(layer(weights["pixels"], hidden))
    return ((x - x_hat) ** 2).sum() + (sigma**2 + mu**2 - log_sigma - 0.5).sum()


def train(inputs: Inputs, epochs: int) -> tuple[list[float], float]:
    """Return the time after each epoch, with the start's, and the article's loss of the last epoch."""
    images, labels = jnp.asarray(inputs.images), jax.nn.one_hot(inputs.labels, 10)

    def step(state: tuple, batch: tuple) -> tuple:
        weights, means, squares, count = state
        picked, noise = batch
        value, gradient = jax.value_and_grad(loss)(weights, images[picked], labels[picked], noise)
        count = count + 1
        means = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, means, gradient)
        squares = jax.tree.map(lambda s, g: BETA2 * s + (1 - BETA2) * g * g, squares, gradient)

        def updated(w: jax.Array, m: jax.Array, s: jax.Array) -> jax.Array:
            return w - RATE * (m / (1 - BETA1**count)) / (jnp.sqrt(s / (1 - BETA2**count)) + EPSILON)

        return (jax.tree.map(updated, weights, means, squares), means, squares, count), value

    @jax.jit
    def epoch(state: tuple, order: jax.Array, noise: jax.Array) -> tuple:
        whole = len(order) - len(order) % inputs.batch_size
        batches = (part[:whole].reshape(-1, inputs.batch_size, *part.shape[1:]) for part in (order, noise))
        state, losses = jax.lax.scan(step, state, tuple(batches))
        if whole == len(order):
            return state, losses.sum()
        state, last = step(state, (order[whole:], noise[whole:]))
        return state, losses.sum() + last

    weights = jax.tree.map(jnp.asarray, inputs.weights)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state, total = (weights, zeros, zeros, jnp.zeros(())), np.nan
    times = [time.perf_counter()]
    for order, noise in inputs.samples(epochs):
        state, value = epoch(state, jnp.asarray(order), jnp.asarray(noise))
        total = float(value)  # waits for it
        times.append(time.perf_counter())
    return times, total
