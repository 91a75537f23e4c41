"""What a person does on the explorer's page with the pointer and the keys, and what the page shows."""

import numpy as np
import pytest
from helpers.explorer import SMALL, frame, strokes_like, vivid, write
from helpers.pages import SCREENSHOTS

from cvae.data.dataset import Schema

MANY = Schema((28, 28, 1), tuple(f"class {i}" for i in range(47)), "Letters", ink=True)
COLOUR = Schema((16, 16, 3), ("red", "green"), "Flags")
# A 3, in shares of the pad's width.
THREE = [(0.3, 0.25), (0.45, 0.15), (0.62, 0.2), (0.65, 0.32), (0.58, 0.43), (0.45, 0.47)]
THREE += [(0.6, 0.52), (0.68, 0.65), (0.6, 0.8), (0.45, 0.85), (0.3, 0.77)]


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """The page of a model of two latents and three classes."""
    return write(vivid(), tmp_path_factory.mktemp("explorer"))


@pytest.fixture
def page(explorer, open_page):
    return open_page(explorer)


def z(page) -> list[float]:
    return page.evaluate("[...explorer.state.z]")


def shown(page, canvas: str = "#image") -> np.ndarray:
    """Return the red of each pixel of a canvas."""
    script = """(canvas) => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return [...data].filter((_, i) => i % 4 === 0);
    }"""
    return np.array(page.locator(canvas).first.evaluate(script))


def on_plane(page, *latents: float) -> tuple[float, float]:
    """Return where latents are in the window."""
    page.locator("#plane").scroll_into_view_if_needed()
    box = page.locator("#plane").bounding_box()
    x, y = page.evaluate("(place) => explorer.plane.toPixels(place)", list(latents))
    return box["x"] + 1 + x, box["y"] + 1 + y


def corner(page, right: int, up: int) -> tuple[float, float]:
    """Return latents near a corner of the plane, where there is no test image."""
    reach = page.evaluate("explorer.plane.reach")
    return 0.95 * right * reach, 0.95 * up * reach


def draw(page, points=THREE, scale: float = 1, shift: tuple[float, float] = (0, 0)) -> None:
    """Draw a stroke on the pad."""
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    for i, (x, y) in enumerate(points):
        at = [box["x"] + (x * scale + shift[0]) * box["width"], box["y"] + (y * scale + shift[1]) * box["width"]]
        page.mouse.move(*at)
        if i == 0:
            page.mouse.down()
    page.mouse.up()
    frame(page)


def photograph(page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"explorer-{name}.png", full_page=True)


# The latent plane


def test_dragging_moves_the_point_and_decodes_it_at_once(page):
    before = shown(page)
    page.mouse.move(*on_plane(page, *corner(page, -1, 1)))
    page.mouse.down()
    frame(page)
    assert z(page) == pytest.approx(corner(page, -1, 1), abs=0.05)
    page.mouse.move(*on_plane(page, 1.5, -0.5), steps=4)
    frame(page)
    assert z(page) == pytest.approx([1.5, -0.5], abs=0.05)
    dragged = shown(page)
    assert np.abs(dragged - before).max() > 20
    expected = page.evaluate("[...network.decode(explorer.state.z, explorer.state.label)]")
    low, high = page.evaluate("coloursOf(explorer.image.canvas).map((colour) => colour[0])")[::-1]
    np.testing.assert_allclose(dragged, low + np.array(expected) * (high - low), atol=0.6)
    page.mouse.up()
    page.mouse.move(*on_plane(page, 0, 0))
    assert z(page) == pytest.approx([1.5, -0.5], abs=0.05), "the button is up"


def test_dragging_beyond_the_plane_stops_at_its_border(page):
    page.mouse.move(*on_plane(page, 1, 1))
    page.mouse.down()
    page.mouse.move(1270, 5)
    page.mouse.up()
    reach = page.evaluate("explorer.plane.reach")
    assert z(page) == pytest.approx([reach, reach])


def test_pointing_at_a_test_image_shows_it_with_its_reconstruction_and_its_posterior(page):
    page.mouse.move(*on_plane(page, *page.evaluate("explorer.plane.places[7]")))
    frame(page)
    found = page.evaluate("explorer.state.hover")
    label, mu, sigma = page.evaluate(
        "(i) => [explorer.images.labels[i], [...explorer.images.mu(i)], [...explorer.images.sigma(i)]]", found
    )
    assert mu == pytest.approx(page.evaluate("explorer.plane.places[7]"), abs=0.2)
    assert page.locator("#hover").is_visible()
    text = page.locator("#hover-text").inner_text()
    assert text == f"{SMALL.classes[label]}, σ = {sigma[0]:.2f}, {sigma[1]:.2f}"
    image, decoded = page.evaluate(
        "(i) => [[...explorer.images.image(i)], [...explorer.hoveredReconstruction.image]]", found
    )
    assert page.evaluate("[...explorer.hovered.image]") == image
    assert decoded == page.evaluate("([z, label]) => [...network.decode(z, label)]", [mu, label])
    photograph(page, "hover")
    page.mouse.move(2, 2)
    frame(page)
    assert page.locator("#hover").is_hidden()


def test_the_ellipse_has_the_posteriors_standard_deviations(page):
    """Draw a posterior on a canvas that only notes its ellipses."""
    i = 5
    drawn = page.evaluate(
        """(i) => {
          const noted = [];
          const context = { beginPath() {}, stroke() {}, ellipse: (...numbers) => noted.push(numbers) };
          explorer.plane.drawPosterior(context, i);
          return noted;
        }""",
        i,
    )
    ((x, y, width, height, *_),) = drawn
    mu, sigma = page.evaluate("(i) => [[...explorer.images.mu(i)], [...explorer.images.sigma(i)]]", i)
    assert [x, y] == pytest.approx(page.evaluate("(mu) => explorer.plane.toPixels(mu)", mu))
    right, top = page.evaluate("(rim) => explorer.plane.toPixels(rim)", [mu[0] + sigma[0], mu[1] + sigma[1]])
    assert [width, height] == pytest.approx([right - x, y - top])


def test_a_click_on_a_test_image_goes_to_its_latents_and_keeps_the_class(page):
    page.keyboard.press("2")
    place = page.evaluate("explorer.plane.places[3]")
    page.mouse.click(*on_plane(page, *place))
    nearest = page.evaluate("explorer.plane.places").index(z(page))
    assert z(page) == pytest.approx(place, abs=0.2)
    assert nearest >= 0
    assert page.evaluate("explorer.state.label") == 2


def test_a_class_can_be_singled_out(page):
    chip = page.locator("#legend button").nth(1)
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    labels = page.evaluate("explorer.images.labels")
    places = page.evaluate("explorer.plane.places")
    for i in (labels.index(0), labels.index(2)):
        page.mouse.move(*on_plane(page, *places[i]))
        frame(page)
        hovered = page.evaluate("explorer.state.hover")
        assert hovered is None or labels[hovered] == 1
    chip.click()
    assert page.evaluate("explorer.state.only") is None


def test_every_class_is_decoded_from_the_same_z_and_a_click_chooses_it(page):
    tiles = page.locator("#classes button")
    assert tiles.all_inner_texts() == list(SMALL.classes)
    images = page.evaluate("explorer.classes.tiles.map(({ picture }) => [...picture.image])")
    assert images == page.evaluate("model.classes.map((_, label) => [...network.decode(explorer.state.z, label)])")
    tiles.nth(2).click()
    frame(page)
    assert page.evaluate("explorer.state.label") == 2
    assert page.evaluate("[...explorer.image.image]") == images[2]
    assert [tile.get_attribute("aria-pressed") for tile in tiles.all()] == ["false", "false", "true"]


def test_arrow_keys_move_the_point_and_digits_choose_a_class(page):
    before = z(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    step = page.evaluate("explorer.plane.reach") / 50
    assert z(page) == pytest.approx([before[0] + step, before[1] - step], abs=1e-4)
    page.keyboard.press("Shift+ArrowLeft")
    assert z(page)[0] == pytest.approx(before[0] - 4 * step, abs=1e-4)
    page.keyboard.press("1")
    assert page.evaluate("explorer.state.label") == 1
    page.keyboard.press("9")
    assert page.evaluate("explorer.state.label") == 1, "there is no such class"
    page.locator("#position").focus()
    before = z(page)[1]
    page.keyboard.press("ArrowUp")
    assert page.locator("#position").input_value() == "0.01", "a slider has its own arrow keys"


def test_the_path_between_two_points_can_be_played_and_set(page):
    (left, top), (right, _) = corner(page, -1, 1), corner(page, 1, 1)
    for button, place in (("#set-a", left), ("#set-b", right)):
        page.mouse.click(*on_plane(page, place, top))
        page.click(button)
    page.locator("#position").fill("0.25")
    assert z(page) == pytest.approx([left + 0.25 * (right - left), top], abs=0.1)
    page.click("#play")
    page.wait_for_function("Number(document.getElementById('position').value) > 0.4")
    page.click("#play")
    stopped = z(page)
    assert stopped[0] > left + 0.35 * (right - left)
    assert stopped[1] == pytest.approx(top, abs=0.1)
    frame(page)
    assert z(page) == stopped
    photograph(page, "path")


# Other models


@pytest.mark.parametrize("latents", [3, 8])
def test_of_more_latents_two_are_axes_and_the_others_have_sliders(latents, open_page, tmp_path):
    page = open_page(write(vivid(latent_dims=latents), tmp_path))
    assert page.locator("#sliders input").count() == latents - 2
    before = shown(page)
    axes = page.evaluate("explorer.state.axes")
    other = next(i for i in range(latents) if i not in axes)
    page.locator("#sliders input").first.fill("2.5")
    frame(page)
    assert z(page)[other] == pytest.approx(2.5)
    assert np.abs(shown(page) - before).max() > 10
    page.locator("#axis-0").select_option(str(other))
    frame(page)
    assert page.evaluate("explorer.state.axes") == [other, axes[1]]
    assert z(page)[other] == pytest.approx(2.5)
    page.locator("#axis-1").select_option(str(other))
    assert page.evaluate("explorer.state.axes") == [axes[1], other], "an axis that is taken changes places"
    page.mouse.move(*on_plane(page, *page.evaluate("explorer.plane.places[0]")))
    page.mouse.down()
    page.mouse.up()
    assert z(page) in page.evaluate(
        "Array.from({ length: explorer.images.count }, (_, i) => [...explorer.images.mu(i)])"
    )
    photograph(page, f"{latents}-latents")


def test_one_latent_is_a_strip(open_page, tmp_path):
    page = open_page(write(vivid(latent_dims=1), tmp_path))
    box = page.locator("#plane").bounding_box()
    assert box["height"] < 0.6 * box["width"]
    page.mouse.move(*on_plane(page, corner(page, 1, 1)[0], 0.99))
    page.mouse.down()
    page.mouse.move(*on_plane(page, -1, 0.01))
    page.mouse.up()
    assert z(page) == pytest.approx([-1], abs=0.05)
    before = z(page)[0]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    assert z(page)[0] - before == pytest.approx(page.evaluate("explorer.plane.reach") / 50, abs=1e-4)
    page.click("#play")
    page.wait_for_function("Number(document.getElementById('position').value) > 0.1")
    photograph(page, "1-latent")


def test_a_model_without_labels_has_no_choice_of_a_class_and_no_bars(open_page, tmp_path):
    page = open_page(write(vivid(labels="none"), tmp_path))
    draw(page)
    hidden = ("#classes", "#redrawn", "#bars")
    assert not any(page.locator(place).is_visible() for place in hidden)
    assert page.locator("#legend button").count() == 3, "test images still have classes"
    value = page.evaluate("network.negativeElbo(explorer.encoding.image, 0)")
    assert page.locator("#verdict").inner_text().startswith(f"{value:.1f}.")
    assert z(page) == page.evaluate("[...network.encode(explorer.encoding.image, 0).mu]")
    page.keyboard.press("1")
    assert page.evaluate("explorer.state.label") == 0
    photograph(page, "without-labels")


def test_images_in_colour_are_shown_in_colour_and_not_drawn(open_page, tmp_path):
    page = open_page(write(vivid(COLOUR), tmp_path))
    assert page.locator("#pad").is_hidden()
    page.click("#test-image")
    frame(page)
    pixels = page.evaluate("[...explorer.encoding.input.pixels.data]")
    image = page.evaluate("[...explorer.images.image(1)]")
    colours = np.array(pixels).reshape(-1, 4)
    np.testing.assert_allclose(colours[:, :3].ravel(), np.rint(np.array(image) * 255), atol=1)
    assert (colours[:, 3] == 255).all()
    assert page.locator("#bars button").count() == 2
    photograph(page, "colour")


def test_images_that_strokes_cannot_resemble_are_not_drawn(open_page, tmp_path):
    images = strokes_like(SMALL)
    images.images[:, : images.images.shape[1] // 2] = 200
    page = open_page(write(vivid(), tmp_path, images))
    assert page.locator("#pad").is_hidden()
    assert page.locator("#encoded h2").inner_text() == "Encode an image"


def test_of_many_classes_the_bars_show_the_best(open_page, tmp_path):
    page = open_page(write(vivid(MANY), tmp_path, strokes_like(MANY, 200)))
    draw(page)
    values = [float(text) for text in page.locator("#bars button > span:last-child").all_inner_texts()]
    assert len(values) == 12
    assert values == sorted(values)
    assert page.locator("#redrawn button").count() == 47
    photograph(page, "47-classes")


# Drawing


@pytest.mark.parametrize(("scale", "shift"), [(1, (0, 0)), (0.4, (0.55, 0.02))], ids=["large", "small, in a corner"])
def test_a_drawing_is_scaled_and_centred_like_the_images_of_the_data(page, scale, shift):
    draw(page, scale=scale, shift=shift)
    image = np.array(page.evaluate("[...explorer.encoding.image]")).reshape(28, 28)
    rows, columns = (np.flatnonzero(image.max(axis) > 0.1) for axis in (1, 0))
    assert 19 <= np.ptp(rows) + 1 <= 21, "its longer side fills the box of 20 pixels"
    assert np.ptp(columns) < 16
    grid = np.arange(28) + 0.5
    assert (image.sum(1) @ grid) / image.sum() == pytest.approx(14, abs=0.2)
    assert (image.sum(0) @ grid) / image.sum() == pytest.approx(14, abs=0.2)
    assert image.max() == pytest.approx(1, abs=0.01)
    assert 0.08 < image.mean() < 0.2, "about as much ink as in MNIST, on average 0.13"


def test_a_drawing_is_the_same_however_large_it_is_drawn(page):
    images = []
    for scale in (1, 0.5):
        draw(page, scale=scale)
        images.append(np.array(page.evaluate("[...explorer.encoding.image]")))
        page.click("#clear")
    assert np.abs(images[0] - images[1]).max() < 0.35
    assert np.abs(images[0] - images[1]).mean() < 0.01


def test_a_dot_and_two_strokes_can_be_drawn(page):
    draw(page, [(0.5, 0.5)])
    assert np.array(page.evaluate("[...explorer.encoding.image]")).sum() > 2
    page.click("#clear")
    draw(page, [(0.3, 0.2), (0.3, 0.8)])
    draw(page, [(0.7, 0.2), (0.7, 0.8)])
    image = np.array(page.evaluate("[...explorer.encoding.image]")).reshape(28, 28)
    assert image[14, 12:16].max() < 0.1
    assert image[14].max() == pytest.approx(1, abs=0.01)
    assert page.evaluate("explorer.encoding.strokes.length") == 2


def test_a_drawing_is_encoded_under_each_class_and_redrawn_as_each(page):
    page.click("#clear")
    assert page.locator("#bars button:disabled").count() == 3
    draw(page)
    values = page.evaluate("model.classes.map((_, label) => network.negativeElbo(explorer.encoding.image, label))")
    assert page.locator("#bars button > span:last-child").all_inner_texts() == [f"{value:.1f}" for value in values]
    widths = [bar.bounding_box()["width"] for bar in page.locator("#bars .bar").all()]
    assert widths == pytest.approx([max(widths) * value / max(values) for value in values], abs=1)
    best = int(np.argmin(values))
    assert [row.evaluate("row => row.className") for row in page.locator("#bars button").all()].index("best") == best
    assert f"takes it for {SMALL.classes[best]}." in page.locator("#verdict").inner_text()
    for under in (best, (best + 1) % 3):
        if under != best:
            page.locator("#bars button").nth(under).click()
            frame(page)
        mu = page.evaluate("(label) => [...network.encode(explorer.encoding.image, label).mu]", under)
        assert z(page) == mu, "the point goes to the drawing's latents"
        assert page.evaluate("explorer.state.label") == under
        redrawn = page.evaluate("explorer.encoding.redrawn.tiles.map(({ picture }) => [...picture.image])")
        assert redrawn == page.evaluate("(z) => model.classes.map((_, label) => [...network.decode(z, label)])", mu)
        assert page.evaluate("[...explorer.encoding.reconstruction.image]") == redrawn[under]
    photograph(page, "drawn")
    page.click("#clear")
    frame(page)
    assert page.locator("#bars button:disabled").count() == 3
    assert shown(page, "#redrawn canvas").max() == 0


@pytest.mark.parametrize("width", [360, 660, 1280])
def test_nothing_moves_when_a_drawing_begins_and_is_cleared(explorer, open_page, width):
    page = open_page(explorer, width, 770)

    def places() -> list[float]:
        top = "(shown) => shown.getBoundingClientRect().top + window.scrollY"
        return [page.locator(place).evaluate(top) for place in ("#pad", "#redrawn", "footer")]

    before = places()
    draw(page)
    assert places() == before
    page.click("#clear")
    frame(page)
    assert places() == before


@pytest.fixture
def phone(explorer, open_page):
    return open_page(explorer, 360, 740, has_touch=True, is_mobile=True)


def swipe(page, *places: tuple[float, float]) -> None:
    """Move a finger over places in the window."""
    touch = page.context.new_cdp_session(page)
    for i, (x, y) in enumerate(places):
        kind = "touchMove" if i else "touchStart"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    frame(page)


def test_a_finger_can_draw(phone):
    phone.locator("#pad").scroll_into_view_if_needed()
    box = phone.locator("#pad").bounding_box()
    swipe(phone, *((box["x"] + x * box["width"], box["y"] + y * box["width"]) for x, y in THREE))
    assert phone.evaluate("explorer.encoding.strokes.map((stroke) => stroke.length)") == [len(THREE)]
    assert phone.locator("#verdict").inner_text() != ""


def test_a_finger_can_drag_the_point(phone):
    ends = [corner(phone, -1, 1), corner(phone, 1, -1)]
    before = phone.evaluate("window.scrollY")
    swipe(phone, on_plane(phone, *ends[0]), on_plane(phone, 0, 0), on_plane(phone, *ends[1]))
    assert z(phone) == pytest.approx(ends[1], abs=0.05)
    assert phone.evaluate("window.scrollY") == before, "the page does not scroll"


def test_test_images_can_be_encoded_one_after_another(page):
    for i in range(3):
        if i > 0:  # it begins with one
            page.click("#test-image")
            frame(page)
        assert page.evaluate("[...explorer.encoding.image]") == page.evaluate("(i) => [...explorer.images.image(i)]", i)


def test_of_binary_data_drawings_are_binary(open_page, tmp_path):
    images = strokes_like(SMALL)
    images.images[:] = np.where(images.images > 0, 255, 0)
    page = open_page(write(vivid(), tmp_path, images))
    draw(page)
    assert set(page.evaluate("[...explorer.encoding.image]")) == {0, 1}


# Looks


def luminance(page, place: str = "body") -> float:
    return page.locator(place).evaluate("shown => coloursOf(shown)[1][0]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_the_system_and_a_button_changes_it(explorer, open_page, scheme):
    page = open_page(explorer, color_scheme=scheme)
    is_dark = scheme == "dark"
    assert (luminance(page) < 80) == is_dark
    background = shown(page, "#hover-image") if page.locator("#hover-image").is_visible() else shown(page)
    page.click("#theme")
    frame(page)
    assert (luminance(page) < 80) != is_dark
    assert np.median(np.abs(shown(page) - background)) > 20, "images change too"
    page.click("#theme")
    frame(page)
    np.testing.assert_array_equal(shown(page), background)
    photograph(page, scheme)


@pytest.mark.parametrize("latents", [2, 8])
def test_a_phone_shows_everything_without_scrolling_sideways(open_page, tmp_path, latents):
    page = open_page(write(vivid(MANY, latent_dims=latents), tmp_path), 360, 740)
    draw(page)
    for i in (0, 20):
        page.mouse.move(*on_plane(page, *page.evaluate("(i) => explorer.plane.places[i]", i)))
        frame(page)
        assert page.locator("#hover").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    image, plane = (page.locator(place).bounding_box() for place in ("#image", "#plane"))
    assert max(plane["y"] + plane["height"] - image["y"], image["y"] + image["height"] - plane["y"]) < 740, (
        "the image is visible while one drags"
    )
    photograph(page, f"phone-{latents}")


def test_the_page_works_in_a_sandboxed_frame_of_the_size_of_mlflows(explorer, open_page, tmp_path):
    """MLflow's preview allows scripts only: the page has no origin, and access to localStorage is an error."""
    outer = tmp_path / "outer.html"
    frame_of = f'<iframe sandbox="allow-scripts" src="{explorer.as_uri()}" width="660" height="770" style="border:0">'
    outer.write_text(f"<body style='margin:0'>{frame_of}</iframe>")
    page = open_page(outer, 660, 770, ready=False)
    inner = page.frames[1]
    inner.wait_for_function("typeof explorer === 'object'")
    frame(inner)
    assert inner.evaluate("document.documentElement.scrollWidth") <= 660
    for place in ("#image", "#classes", "#plane", "#play"):
        box = inner.locator(place).bounding_box()
        assert box["y"] + box["height"] <= 770, f"{place} is visible at once"
    box = inner.locator("#plane").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    frame(inner)
    reach = inner.evaluate("explorer.plane.reach")
    assert inner.evaluate("[...explorer.state.z]") == pytest.approx([-reach, reach], abs=0.2)
    page.mouse.up()
    photograph(page, "frame")


def test_a_frame_of_the_default_model_takes_a_few_milliseconds(open_page, tmp_path):
    """Decoding and drawing ten classes takes 5 ms on two cores of an AMD EPYC; 60 frames a second leave 16."""
    schema = Schema((28, 28, 1), tuple("0123456789"), "MNIST", ink=True)
    page = open_page(write(vivid(schema, hidden_dims=256), tmp_path, strokes_like(schema, 2000)))
    times = page.evaluate(
        """Array.from({ length: 30 }, (_, i) => {
          const start = performance.now();
          explorer.state.z[0] = i / 10;
          explorer.draw();
          return performance.now() - start;
        })"""
    )
    assert np.median(times) < 50
