"""Your own images: which files count, what becomes of them, and which are for testing."""

import gzip
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvae.data.class_folders import find_images
from cvae.data.dataset import Dataset, load
from cvae.data.idx import write_idx
from cvae.data.images import import_images
from cvae.support.errors import UserError


def picture(seed: int, size: tuple[int, int] = (12, 10), mode: str = "L") -> Image.Image:
    """Return an image of random pixels."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], *channels), np.uint8))


def fill(folder: Path, seeds: range, name: str = "{}.png", **options) -> None:
    """Write an image for each of `seeds` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        picture(seed, **options).save(folder / name.format(seed))


@pytest.fixture
def source(tmp_path) -> Path:
    """A folder of two classes with ten images each."""
    fill(tmp_path / "mine" / "cats", range(10))
    fill(tmp_path / "mine" / "dogs", range(10, 20))
    return tmp_path / "mine"


@pytest.fixture
def imported(tmp_path):
    """A function that imports a folder, and returns the data set and the report."""

    def run(source: Path, image_size: int = 8, channels: int = 1, test_share: float = 0.3) -> tuple[Dataset, str]:
        report = import_images(str(source), tmp_path / "raw", image_size, channels, test_share)
        return load(tmp_path / "raw"), report

    return run


@pytest.fixture
def pixels(tmp_path, imported):
    """A function that returns what becomes of one image, (height, width, channels)."""

    def run(
        image: Image.Image, name: str = "image.png", image_size: int = 8, channels: int = 3, **saving
    ) -> np.ndarray:
        for number in range(2):  # a class needs two; with the same pixels but other bytes
            buffer = io.BytesIO()
            image.save(buffer, Path(name).suffix[1:].replace("jpg", "jpeg"), **saving)
            (tmp_path / "one/class").mkdir(parents=True, exist_ok=True)
            (tmp_path / "one/class" / f"{number}{name}").write_bytes(buffer.getvalue() + b"\0" * number)
        data, report = imported(tmp_path / "one", image_size, channels)
        assert "Left out" not in report
        assert np.array_equal(data.train.images[0], data.test.images[0])
        return data.train.images[0].reshape(data.schema.shape)

    return run


# What becomes of an image


def test_an_image_of_the_right_size_keeps_its_pixels(pixels):
    grey, colour = picture(0, (8, 8)), picture(0, (8, 8), "RGB")
    assert np.array_equal(pixels(grey, channels=1)[:, :, 0], np.asarray(grey))
    assert np.array_equal(pixels(colour), np.asarray(colour))
    assert np.array_equal(pixels(grey), np.asarray(grey.convert("RGB")))
    assert np.array_equal(pixels(colour, channels=1)[:, :, 0], np.asarray(colour.convert("L")))


RED, WHITE = [255, 0, 0], [255, 255, 255]


def half_transparent(mode: str) -> Image.Image:
    """Return an image that is red on the left and transparent on the right."""
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    image.paste((0, 90, 0, 0), (4, 0, 8, 8))
    if mode == "P":
        palette = Image.new("P", (8, 8), 0)
        palette.putpalette([255, 0, 0, 0, 90, 0])
        palette.paste(1, (4, 0, 8, 8))
        palette.info["transparency"] = 1
        return palette
    return image.convert(mode)


@pytest.mark.parametrize(("mode", "left"), [("RGBA", RED), ("P", RED), ("LA", [76, 76, 76])])
def test_transparent_parts_become_white(pixels, mode, left):
    values = pixels(half_transparent(mode))
    assert (values[:, :4] == left).all()
    assert (values[:, 4:] == WHITE).all()


def ramp16() -> Image.Image:
    return Image.fromarray((np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8))


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("bits.png", Image.eval(picture(0, (8, 8)), lambda v: 255 * (v > 99)).convert("1"), None),
        ("palette.png", picture(0, (8, 8), "RGB").quantize(16), None),
        ("cmyk.tiff", picture(0, (8, 8), "RGB").convert("CMYK"), None),
        ("deep.png", ramp16(), np.rint(np.arange(64) * 1040 / 257).reshape(8, 8)),
        ("deep.tiff", ramp16(), np.rint(np.arange(64) * 1040 / 257).reshape(8, 8)),
        ("lossless.webp", picture(0, (8, 8), "RGB"), None),
        ("old.bmp", picture(0, (8, 8), "RGB"), None),
        ("still.gif", picture(0, (8, 8)), None),
        ("net.ppm", picture(0, (8, 8), "RGB"), None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_images_of_any_mode_and_format_become_eight_bits_a_channel(pixels, name, image, expected):
    saving = {"lossless": True} if name.endswith("webp") else {}
    expected = np.asarray(image.convert("RGB")) if expected is None else expected[:, :, None]
    assert (pixels(image, name, **saving) == expected).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_the_orientation_that_a_camera_noted_is_applied(pixels, orientation, name):
    upright = Image.new("RGB", (32, 32))
    upright.paste((255, 255, 255), (0, 0, 16, 8))  # a bar at the top left
    stored = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }[orientation]
    image = upright
    for step in stored:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = pixels(image, name, exif=exif)
    assert values[:2, :4].min() > 200
    assert values[3:].max() < 55
    assert values[:, 5:].max() < 55


def test_the_square_in_the_middle_is_kept(pixels):
    for size, box in (((40, 16), (12, 0, 28, 16)), ((16, 40), (0, 12, 16, 28))):
        image = Image.new("L", size, 255)
        image.paste(100, box)
        assert (pixels(image, image_size=16, channels=1) == 100).all()


@pytest.mark.parametrize("name", ["big.png", "big.jpg"])
def test_a_larger_image_is_averaged_not_subsampled(pixels, name):
    fine = np.zeros((512, 512), np.uint8)
    fine[::2] = 255  # lines that every second row of pixels would miss
    values = pixels(Image.fromarray(fine), name, channels=1)
    assert abs(values.astype(int) - 128).max() < 4


def test_a_smaller_image_is_enlarged(pixels):
    values = pixels(Image.new("RGB", (1, 1), (9, 80, 200)), image_size=8)
    assert (values == [9, 80, 200]).all()


def test_a_photo_with_a_preview_is_an_image(pixels):
    image = Image.new("RGB", (64, 64), (9, 80, 200))
    values = pixels(image, "phone.mpo", save_all=True, append_images=[image.resize((16, 16))])
    assert abs(values.astype(int) - [9, 80, 200]).max() < 4


# Which files count


def test_classes_are_sorted_as_people_do_and_keep_their_names(tmp_path, imported):
    names = ["10 ducks", "2 cats", "Äpfel, rot", "猫", "b", "A", "C"]
    for number, name in enumerate(names):
        fill(tmp_path / "my zoo" / name, range(3 * number, 3 * number + 3))
    data, report = imported(tmp_path / "my zoo")
    assert data.schema.classes == ("2 cats", "10 ducks", "A", "b", "C", "Äpfel, rot", "猫")
    assert (data.schema.title, data.schema.shape, data.schema.ink) == ("my zoo", (8, 8, 1), False)
    assert all(name in report for name in names)


def test_a_class_of_a_name_that_cannot_be_printed_or_has_two_spellings(tmp_path, imported):
    fill(tmp_path / "mine" / "a\nb", range(3))
    fill(tmp_path / "mine" / "Zoe\u0308", range(3, 6))  # as macOS may spell it
    fill(tmp_path / "mine" / "Zo\u00eb", range(6, 9))
    data, _ = imported(tmp_path / "mine")
    assert data.schema.classes == ("a b", "Zoë")
    assert len(data.train) + len(data.test) == 9


def test_what_is_not_meant_to_be_an_image_is_passed_over_and_folders_are_searched(source, imported):
    fill(source / "cats" / "holiday" / "2025", range(20, 23))
    for name in (
        "README.md",
        "dogs.dvc",
        ".gitignore",
        ".DS_Store",
        "Thumbs.db",
        "cats/desktop.ini",
        "cats/readme.txt",
    ):
        (source / name).write_text("text")
    for name in (".git", "__MACOSX", "cats/.thumbnails", "cats/@eaDir"):
        fill(source / name, range(30, 33))
    data, report = imported(source)
    assert "Left out" not in report
    assert data.schema.classes == ("cats", "dogs")
    assert len(data.train) + len(data.test) == 23


def test_an_image_or_a_class_may_be_called_readme(source, imported):
    fill(source / "readme cats", range(20, 25), "readme_{}.png")
    data, report = imported(source)
    assert data.schema.classes == ("cats", "dogs", "readme cats")
    assert "Left out" not in report


def test_splits_under_other_names_are_no_classes(tmp_path, imported):
    for split in ("training", "testing"):
        fill(tmp_path / "mine" / split / "cats", range(5))
    with pytest.raises(UserError, match=r"its folders are called testing, training; call them train and test$"):
        imported(tmp_path / "mine")


def test_every_file_that_is_left_out_is_named_with_the_reason(source, imported, tmp_path):
    content = (source / "cats/0.png").read_bytes()
    (source / "cats/cut short.png").write_bytes(content[:-30])
    (source / "cats/empty.jpg").touch()
    (source / "dogs/page.png").write_text("<html>")
    (source / "dogs/notes.txt").write_text("text")
    (source / "dogs/gone.png").symlink_to("nowhere.png")
    (source / "stray.png").write_bytes(content)
    frames = [Image.new("L", (9, 9), grey) for grey in (0, 99, 200)]
    frames[0].save(source / "dogs/moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(source / "dogs/real.tiff")
    fill(tmp_path / "elsewhere", range(50, 53))
    (source / "dogs/linked").symlink_to(tmp_path / "elsewhere")
    fill(source / "lonely", range(40, 41))
    (source / "nothing").mkdir()
    data, report = imported(source)
    assert data.schema.classes == ("cats", "dogs")
    assert len(data.train) + len(data.test) == 20
    _, _, lines = report.partition("Left out (11):\n")
    reasons = dict(line.strip().split(": ", 1) for line in lines.splitlines())
    assert reasons.pop("cats/cut short.png").startswith("broken: ")
    needs = "a class needs one for training and one for testing that no other class has"
    assert reasons == {
        "stray.png": "not in the folder of a class",
        "cats/empty.jpg": "broken: no image in it",
        "dogs/page.png": "broken: no image in it",
        "dogs/notes.txt": "not an image",
        "dogs/gone.png": "not a file",
        "dogs/linked": "not a file",
        "dogs/moving.gif": "animated, or of several pages",
        "dogs/real.tiff": "broken: its pixels are real numbers, whose range is unknown",
        "lonely": f"no test image (different usable images: 1); {needs}",
        "nothing": f"no training image (different usable images: 0); {needs}",
    }


def test_a_long_list_of_files_is_cut_but_counted(source, imported):
    for number in range(30):
        (source / "cats" / f"{number:02}.txt").touch()
    _, report = imported(source)
    *_, before, last = report.splitlines()
    assert (before, last) == ("  cats/19.txt: not an image", "  … and 10 more")


def test_the_table_counts_each_class(source, imported):
    fill(source / "dogs", range(20, 24), size=(40, 9))
    (source / "dogs/broken.png").touch()
    data, report = imported(source)
    header, _, *lines = report.splitlines()
    assert header.split() == ["class", "training", "test", "width", "×", "height", "left", "out"]
    counts = [np.bincount(split.labels) for split in (data.train, data.test)]
    assert lines[0].split() == ["cats", *(str(count[0]) for count in counts), "12", "×", "10", "0"]
    assert lines[1].split() == ["dogs", *(str(count[1]) for count in counts), "12–40", "×", "9–10", "1"]
    assert lines[2].split() == ["all", "classes", *(str(sum(count)) for count in counts), "12–40", "×", "9–10", "1"]
    assert lines[3] == "Each image is 8 × 8 pixels, grey"


# Which images are for testing


def sides(data: Dataset) -> dict[bytes, tuple[str, int]]:
    """Return the split and label of each image."""
    splits = (("train", data.train), ("test", data.test))
    return {
        image.tobytes(): (name, int(label))
        for name, split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    }


def test_about_the_share_of_each_class_is_for_testing(tmp_path, imported):
    for number in range(3):
        fill(tmp_path / "mine" / str(number), range(400 * number, 400 * (number + 1)))
    for share in (0.05, 0.5, 0.9):
        data, _ = imported(tmp_path / "mine", test_share=share)
        spread = (400 * share * (1 - share)) ** 0.5
        assert (abs(np.bincount(data.test.labels) - 400 * share) < 4 * spread).all()


def test_names_and_order_of_files_change_nothing(source, tmp_path, imported):
    first, _ = imported(source)
    before = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    for folder in ("cats", "dogs"):
        for number, path in enumerate(sorted((source / folder).iterdir(), reverse=True)):
            (source / folder / "within").mkdir(exist_ok=True)
            path.rename(source / folder / "within" / f"renamed {number}.jpeg")
    imported(source)
    assert {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()} == before
    assert len(sides(first)) == 20


def test_adding_images_moves_no_other(source, imported):
    known = sides(imported(source)[0])
    assert {split for split, _ in known.values()} == {"train", "test"}
    for seed in range(20, 60, 5):
        fill(source / "cats", range(seed, seed + 5))
        now = sides(imported(source)[0])
        assert known.items() <= now.items()
        known = now
    fill(source / "aardvarks", range(60, 65))
    now = sides(imported(source)[0])
    assert {image: split for image, (split, _) in known.items()}.items() <= {i: s for i, (s, _) in now.items()}.items()


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_a_small_class_has_an_image_on_each_side(tmp_path, imported, share):
    fill(tmp_path / "mine" / "two", range(2))
    fill(tmp_path / "mine" / "five", range(2, 7))
    data, _ = imported(tmp_path / "mine", test_share=share)
    few = data.test if share < 0.5 else data.train
    assert np.bincount(few.labels).tolist() == [1, 1]
    assert len(data.train) + len(data.test) == 7


def test_equal_files_are_on_the_same_side_and_reported(source, imported):
    for seed in range(10):
        fill(source / "cats", range(seed, seed + 1), "again {}.png")
        fill(source / "dogs", range(seed, seed + 1), "cat {}.png")
    data, report = imported(source)
    both = {image.tobytes() for image in data.train.images} & {image.tobytes() for image in data.test.images}
    assert both == set()
    assert len(data.train) + len(data.test) == 40
    assert "Images twice in a class: 10, such as cats/0.png and cats/again 0.png" in report
    assert "Images in several classes: 10, such as cats/0.png and cats/again 0.png" in report


def test_equal_files_of_small_classes_are_on_the_same_side(tmp_path, imported):
    """Either class may take an image against the rule, but not the one that both have."""
    for seed in range(0, 40, 4):
        source = tmp_path / str(seed)
        fill(source / "a", range(seed, seed + 2))
        fill(source / "b", range(seed + 1, seed + 3))
        for share in (1e-9, 0.5, 1 - 1e-9):
            data, _ = imported(source, test_share=share)
            train, test = ({image.tobytes() for image in split.images} for split in (data.train, data.test))
            assert train & test == set()


def test_a_class_without_two_different_images_is_left_out(source, imported):
    fill(source / "same", range(50, 51), "a.png")
    fill(source / "same", range(50, 51), "b.png")
    data, report = imported(source)
    assert data.schema.classes == ("cats", "dogs")
    assert "same: no test image (different usable images: 1); " in report.replace("training image", "test image")


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "TEST")])
def test_folders_train_and_test_decide_which_images_are_for_testing(tmp_path, imported, names):
    for name, seeds in zip(names, (range(6), range(6, 10)), strict=True):
        for label, group in (("x", seeds[::2]), ("y", seeds[1::2])):
            fill(tmp_path / "mine" / name / label, group)
    fill(tmp_path / "mine" / names[1] / "y", range(1), "of the training images.png")
    fill(tmp_path / "mine" / "val" / "x", range(20, 22))
    data, report = imported(tmp_path / "mine")
    assert data.schema.classes == ("x", "y")
    assert [Counter(split.labels.tolist()) for split in (data.train, data.test)] == [{0: 3, 1: 3}, {0: 2, 1: 3}]
    assert "val: beside train and test, whose images are used" in report
    training, test = (
        f"{name}/{rest}" for name, rest in zip(names, ("x/0.png", "y/of the training images.png"), strict=True)
    )
    assert f"Images in both train and test: 1, such as {training} and {test}" in report


def test_a_class_called_train_is_a_class(tmp_path, imported):
    for number, name in enumerate(("bus", "car", "train")):
        fill(tmp_path / "mine" / name, range(3 * number, 3 * number + 3))
    assert imported(tmp_path / "mine")[0].schema.classes == ("bus", "car", "train")


# Folders that cannot be used


def refusal(source: Path) -> str:
    with pytest.raises(UserError, match=r"^[^\n]*$") as raised:
        import_images(str(source), source.parent / "raw", 8, 1, 0.3)
    assert not (source.parent / "raw").exists()
    return str(raised.value).removeprefix(f"{source}")


def test_a_folder_without_classes_is_refused_with_what_is_expected(tmp_path):
    mine = tmp_path / "mine"
    assert refusal(mine) == ": no such folder; `images` in params.yaml names the folder of your images"
    mine.touch()
    assert refusal(mine) == ": not a folder; `images` in params.yaml names the folder of your images"
    mine.unlink()
    mine.mkdir()
    (mine / "README.md").touch()
    expected = f"; give each class a folder, such as {mine}/cat/1.png"
    assert refusal(mine) == f": has no images yet{expected}"
    fill(mine, range(3))
    assert refusal(mine) == f": has 3 files, but no folders{expected}"


def test_a_folder_without_usable_images_is_refused_with_the_first_reason(tmp_path):
    mine = tmp_path / "mine"
    (mine / "cats").mkdir(parents=True)
    start = ": no class has a training image and a test image "
    assert refusal(mine).startswith(f"{start}(cats: no training image (different usable images: 0); ")
    (mine / "cats" / "a.png").touch()
    assert refusal(mine) == f"{start}(cats/a.png: broken: no image in it)"


def test_train_and_test_must_belong_together(tmp_path):
    mine = tmp_path / "mine"
    fill(mine / "train" / "cats", range(3))
    assert refusal(mine) == ": has a folder train, but none called test; add it, or move the class folders up"
    fill(mine / "val" / "cats", range(3, 6))
    assert refusal(mine) == ": has a folder train, but none called test; add it, or move the class folders up"
    fill(mine / "test" / "cats", range(3, 6))
    fill(mine / "test" / "10 dogs", range(6, 9))
    fill(mine / "test" / "9 dogs", range(9, 12))
    assert refusal(mine) == ": test has the class 9 dogs, but train does not; both need every class"
    mine = tmp_path / "flat"
    fill(mine / "train", range(3))
    fill(mine / "test", range(3, 6))
    assert refusal(mine).startswith("/train: has 3 files, but no folders; give each class a folder")


def test_at_most_256_classes_are_possible(tmp_path, imported):
    for number in range(257):
        fill(tmp_path / "mine" / str(number), range(2 * number, 2 * number + 2), size=(2, 2))
    assert refusal(tmp_path / "mine") == ": has 257 class folders; at most 256 are possible"
    (tmp_path / "mine" / "0").rename(tmp_path / "elsewhere")
    data, _ = imported(tmp_path / "mine")
    assert data.schema.classes == tuple(map(str, range(1, 257)))
    assert set(data.train.labels) == set(range(256))


# IDX files


def fill_idx(folder: Path, *shape: int, suffix: str = "-ubyte.gz", dot: str = "-") -> dict[str, np.ndarray]:
    """Write four IDX files of three classes, and return their values."""
    numbers = np.random.default_rng(0)
    folder.mkdir()
    values = {}
    for split, count in (("train", 9), ("t10k", 6)):
        values[f"{split}-images{dot}idx{len(shape) + 1}"] = numbers.integers(0, 256, (count, *shape), np.uint8)
        values[f"{split}-labels{dot}idx1"] = np.arange(count, dtype=np.uint8) % 3
    for name, array in values.items():
        write_idx(folder / f"{name}-ubyte.gz", array)
        if suffix == "-ubyte":
            packed = folder / f"{name}-ubyte.gz"
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
    return values


@pytest.mark.parametrize("shape", [(28, 28), (20, 9), (8, 9, 3)])
@pytest.mark.parametrize(("dot", "suffix"), [("-", "-ubyte.gz"), ("-", "-ubyte"), (".", "-ubyte"), (".", "-ubyte.gz")])
def test_idx_files_are_used_as_they_are(tmp_path, imported, shape, dot, suffix):
    values = fill_idx(tmp_path / "arrays", *shape, suffix=suffix, dot=dot)
    (tmp_path / "arrays/README.md").touch()
    data, report = imported(tmp_path / "arrays", image_size=8, channels=(*shape, 1)[2])
    assert data.schema.shape == (*shape, 1)[:3]
    assert (data.schema.classes, data.schema.title) == (("0", "1", "2"), "arrays")
    assert data.schema.ink is (len(shape) == 2)
    for split, prefix in ((data.train, "train"), (data.test, "t10k")):
        images = values[f"{prefix}-images{dot}idx{len(shape) + 1}"]
        assert np.array_equal(split.images, images.reshape(len(images), -1))
        assert np.array_equal(split.labels, values[f"{prefix}-labels{dot}idx1"])
    assert report.splitlines()[-1].endswith("image_size and test_share do not apply")


@pytest.mark.parametrize(("shape", "channels", "kind"), [((8, 9), 3, "grey"), ((8, 9, 3), 1, "colour")])
def test_channels_must_be_those_of_idx_files(tmp_path, imported, shape, channels, kind):
    """Results are compared by what params.yaml says about their data."""
    fill_idx(tmp_path / "arrays", *shape)
    with pytest.raises(UserError, match=f"arrays: its images are {kind}; set channels: {4 - channels} in params.yaml$"):
        imported(tmp_path / "arrays", channels=channels)


def test_classes_txt_names_the_classes_of_idx_files(tmp_path, imported):
    fill_idx(tmp_path / "arrays", 8, 8)
    (tmp_path / "arrays/classes.txt").write_text("\ufeff2 cats\r\n Äpfel \n猫\n\n", encoding="utf-8")
    assert imported(tmp_path / "arrays")[0].schema.classes == ("2 cats", "Äpfel", "猫")


def test_idx_files_that_do_not_fit_are_refused(tmp_path):
    mine = tmp_path / "mine"
    fill_idx(mine, 8, 8)
    names = mine / "classes.txt"
    for content in (b"", b"a\nb\na\n", b"a\n\nb\n", b"\xff\n", b"\n".join(b"%d" % n for n in range(257))):
        names.write_bytes(content)
        assert refusal(mine).startswith("/classes.txt: ")
    names.write_text("a\nb\n")
    assert refusal(mine) == "/classes.txt: names 2 classes, but labels go up to 2"
    names.write_text("a\nb\nc\nd\n")
    assert refusal(mine) == ": no training image has label 3 (d); labels count from 0"
    names.unlink()
    write_idx(mine / "t10k-labels-idx1-ubyte.gz", np.ones(6))
    assert refusal(mine) == ": no test image has label 0 (0); labels count from 0"
    (mine / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    assert refusal(mine).endswith("; replace it")
    (mine / "t10k-labels-idx1-ubyte.gz").unlink()
    assert refusal(mine) == "/t10k-labels-idx1-ubyte.gz: missing; replace it"
    (mine / "cats").mkdir()
    assert refusal(mine) == ": holds IDX files and the folder cats; keep only one kind of data"


def test_a_listing_reads_no_image(source):
    for path in source.rglob("*.png"):
        path.write_bytes(b"")
    listing = find_images(source)
    assert listing.classes == ("cats", "dogs")
    assert len(listing.files["all"]["cats"]) == 10
