"""How data are named, and which parameters matter for them."""

from helpers.models import make_model

from cvae.data.dataset import Schema
from cvae.pipeline.parameters import Parameters
from cvae.tracking import description
from cvae.tracking.runs import run_name
from cvae.tracking.tasks import applicable, data_name, pixels_of

OWN = {"dataset": "images", "images": "photos/my pets", "image_size": 32, "channels": 3, "test_share": 0.15}
PETS = Schema((32, 32, 3), ("cat", "dog_1", "<b>", "d", "e", "f", "g"), "my pets")
DEFAULTS = Parameters().model_dump() | {key: value for key, value in OWN.items() if key != "dataset"}


def test_your_own_images_are_named_with_what_shapes_them():
    name = "photos/my pets (image_size 32, channels 3, test_share 0.15)"
    assert data_name(OWN) == data_name({key: str(value) for key, value in OWN.items()}) == name
    assert data_name(OWN | {"dataset": "mnist"}) == data_name({"dataset": "mnist"}) == "mnist"


def test_pixels_are_colour_only_if_your_own_images_are():
    grey = {"dataset": "mnist", "channels": 3, "binarize": "none"}
    assert pixels_of(grey) == pixels_of(OWN | {"channels": "1", "binarize": "none"}) == "grey"
    assert pixels_of(OWN | {"channels": "3", "binarize": "none"}) == "colour"
    assert pixels_of(OWN | {"binarize": "static"}) == pixels_of(grey | {"binarize": "dynamic"}) == "binary"


def test_parameters_of_your_own_images_matter_only_for_them():
    assert applicable(DEFAULTS | OWN) == DEFAULTS | OWN
    assert not applicable(DEFAULTS).keys() & (OWN.keys() - {"dataset"})


def test_a_run_is_named_by_its_folder_and_the_class_of_its_model(monkeypatch):
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    model = {"model": "cvae.models.convolutional:ConvolutionalCVAE", "labels": "none"}
    name = run_name(DEFAULTS | OWN | model)
    assert name.startswith("my pets ")
    assert " model=ConvolutionalCVAE labels=none" in name
    assert "photos" not in name
    assert run_name(DEFAULTS | model) == "mnist model=ConvolutionalCVAE labels=none"


def test_a_run_describes_its_data_and_a_model_that_is_not_the_articles():
    model = {"model": "cvae.models.convolutional:ConvolutionalCVAE", "labels": "none"}
    text = description.of_run(DEFAULTS | OWN | model, {}, PETS)
    first = text.splitlines()[0]
    assert first.startswith(r"my pets: 7 classes (cat, dog\_1, \<b\>, d, e, …), 32 × 32 × 3 pixels; ")
    assert first.endswith("the model never sees the labels; the model is cvae.models.convolutional:ConvolutionalCVAE.")
    assert "| images |" in text.replace("**", "")
    usual = description.of_run(DEFAULTS, {}, PETS)
    assert "the model" not in usual.splitlines()[0]
    assert "image_size" not in usual


def test_a_served_model_is_described_by_its_schema():
    given = description.of_model(make_model(PETS))
    assert given.startswith(r"A conditional variational autoencoder, trained on my pets: 7 classes (cat, dog\_1, ")
    assert "- `label`: the name of a class" in given
    assert "as 32 by 32 by 3 or 3072 numbers" in given
    none = description.of_model(make_model(PETS, labels="none"))
    assert none.startswith("A variational autoencoder without labels, trained on my pets: ")
    assert "- `label`: ignored\n" in none
    assert "as 28 by 28 or 784 numbers" in description.of_model(make_model())
