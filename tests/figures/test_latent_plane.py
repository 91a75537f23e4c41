"""The plane that a picture shows, images decoded on it, and the view of one label that holds both."""

import numpy as np
import pytest
from helpers.models import make_model

from cvae.data.dataset import Schema
from cvae.figures.label_view import view_label
from cvae.figures.latent_plane import decode, decode_manifold, fit_plane, tile

SIDE = 28


def test_a_manifold_has_z_as_its_axes_with_y_upwards():
    """Each tile equals the decoder's image at its z: the first axis from left to right, the second from the bottom."""
    model = make_model(latent_dims=2)
    manifold = decode_manifold(model, fit_plane(np.zeros((5, 2))), label=3, grid_size=5, grid_range=2.0)
    assert manifold.shape == (5 * SIDE, 5 * SIDE)
    for row, column, z in ((4, 0, (-2, -2)), (4, 4, (2, -2)), (0, 0, (-2, 2)), (2, 3, (1, 0))):
        tile_there = manifold[SIDE * row : SIDE * (row + 1), SIDE * column : SIDE * (column + 1)]
        np.testing.assert_allclose(tile_there, decode(model, np.array([z]), 3)[0], atol=1e-6)


def test_a_manifold_of_one_dimension_is_a_strip():
    manifold = decode_manifold(
        make_model(latent_dims=1), fit_plane(np.zeros((5, 1))), label=3, grid_size=5, grid_range=2.0
    )
    assert manifold.shape == (SIDE, 5 * SIDE)


def test_a_manifold_of_colour_images_that_are_not_square_has_their_shape_and_colours_from_0_to_255():
    model = make_model(Schema((12, 20, 3), ("a", "b")))
    manifold = decode_manifold(model, fit_plane(np.zeros((5, 2))), label=1, grid_size=5, grid_range=2.0)
    assert (manifold.shape, manifold.dtype) == ((60, 100, 3), np.uint8)
    lower_left = decode(model, np.array([[-2, -2]]), 1)[0]
    np.testing.assert_allclose(manifold[48:, :20] / 255, lower_left, atol=0.51 / 255)


def test_the_decoder_runs_once_per_manifold(monkeypatch):
    model, calls = make_model(latent_dims=2), []
    plain = model.decode
    monkeypatch.setattr(model, "decode", lambda z, y: calls.append(len(z)) or plain(z, y))
    decode_manifold(model, fit_plane(np.zeros((5, 2))), label=3, grid_size=5, grid_range=2.0)
    assert calls == [25]


def test_the_plane_of_many_dimensions_has_their_principal_axes():
    numbers = np.random.default_rng(0)
    spread = np.array([0.1, 3.0, 0.2, 2.0])
    mu = numbers.normal(size=(5000, 4)) * spread + np.array([1.0, 2.0, 3.0, 4.0])
    plane = fit_plane(mu)

    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(np.abs(plane.axes), [[0, 1, 0, 0], [0, 0, 0, 1]], atol=0.05)
    np.testing.assert_allclose(plane.centre, mu.mean(0))
    assert plane.project(mu).std(0) == pytest.approx([3.0, 2.0], rel=0.05)
    np.testing.assert_allclose(plane.project(plane.lift(np.array([[1.0, -2.0]]))), [[1.0, -2.0]])
    share = 9 / (9 + 4 + 0.05)
    assert plane.names[0] == f"principal axis 1 of z ({share:.0%} of variance)"


@pytest.mark.parametrize("images", [0, 1, 2])
def test_very_few_images_have_a_plane_too(images):
    mu = np.random.default_rng(0).normal(size=(images, 4))
    plane = fit_plane(mu)
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-12)
    assert np.isfinite(plane.project(np.ones((1, 4)))).all()
    np.testing.assert_allclose(plane.lift(plane.project(mu)), mu, atol=1e-12)
    assert len(plane.names) == 2


def test_images_are_tiled_in_reading_order():
    images = np.arange(6).reshape(6, 1, 1).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(tile(images, columns=3)[::2, ::2], [[0, 1, 2], [3, 4, 5]])


def test_a_labels_view_has_the_prior_and_the_manifold_on_its_plane():
    model = make_model(latent_dims=4)
    mu = np.random.default_rng(0).normal(size=(50, 4)) + np.array([1.0, 2.0, 3.0, 4.0])
    plane = fit_plane(mu)
    points = plane.project(mu)
    view = view_label(model, 3, "three", plane, points, 4.0, grid_size=5, grid_range=2.0)
    assert (view.label, view.name, view.axis_names, view.is_line) == (3, "three", plane.names, False)
    np.testing.assert_allclose(view.prior_mean, -plane.centre @ plane.axes.T)
    assert view.prior_std == model.prior_std
    np.testing.assert_array_equal(view.points, points)
    np.testing.assert_array_equal(view.manifold, decode_manifold(model, plane, 3, 5, 2.0))


def test_the_view_of_one_latent_is_a_line():
    model, plane = make_model(latent_dims=1), fit_plane(np.zeros((5, 1)))
    view = view_label(model, 3, "3", plane, np.zeros((5, 1)), 4.0, grid_size=5, grid_range=2.0)
    assert view.is_line
    assert view.manifold.shape == (SIDE, 5 * SIDE)
