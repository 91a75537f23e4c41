import sys

import pytest
from helpers.models import MNIST

from cvae import models
from cvae.models import arguments, build
from cvae.support.errors import UserError

SETTINGS = {"labels": "none", "latent_dims": 3, "likelihood": "bernoulli", "prior_std": 1.0, "hidden_dims": 8}
HEAD = """
import torch
from cvae.model import CVAE, VAE, Linear

class Base(VAE):
    def encode(self, x, y):
        return x[:, :self.latent_dims], x[:, :self.latent_dims]

    def logits(self, z, y):
        return z.new_zeros(len(z), self.schema.image_dims)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write the class `Mine` to cvae/models/mine.py, which lies in a folder of this test."""
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])

    def write(code: str) -> str:
        (tmp_path / "mine.py").write_text(HEAD + code)
        return "cvae.models.mine:Mine"

    yield write
    sys.modules.pop("cvae.models.mine", None)
    vars(models).pop("mine", None)


def test_a_model_that_passes_its_settings_on_gets_all_that_it_takes(write):
    name = write("""
class Mine(Base):
    def __init__(self, schema, width=5, **settings):
        super().__init__(schema, **settings)
        self.width = width

    def configuration(self):
        return super().configuration() | {"width": self.width}
""")
    model = build(name, MNIST, SETTINGS | {"width": 7})
    assert model.configuration() == {key: SETTINGS[key] for key in SETTINGS if key != "hidden_dims"} | {"width": 7}
    assert build(name, MNIST, SETTINGS).width == 5
    assert arguments(name) == {"labels", "latent_dims", "likelihood", "prior_std", "width"}


def test_a_model_without_arguments_of_its_own_needs_no_init(write):
    assert build(write("class Mine(Base): pass"), MNIST, SETTINGS).latent_dims == 3


BROKEN = {  # what an author may get wrong, and the one line that says so
    "configuration is forgotten": (
        """
class Mine(Base):
    def __init__(self, schema, width=5, **settings):
        super().__init__(schema, **settings)
""",
        r"Mine: its configuration lacks width, so it could not be loaded again; add it",
    ),
    "configuration has more than the arguments": (
        """
class Mine(Base):
    def configuration(self):
        return super().configuration() | {"width": 5}
""",
        r"Mine: its configuration has width, which its __init__ does not take; add it there",
    ),
    "configuration holds a tensor": (
        """
class Mine(Base):
    def __init__(self, schema, scale=1.0, **settings):
        super().__init__(schema, **settings)
        self.scale = torch.tensor(scale)

    def configuration(self):
        return super().configuration() | {"scale": self.scale}
""",
        r"Mine: its configuration has scale, a Tensor; JSON cannot hold it",
    ),
    "settings are not passed on": (
        """
class Mine(Base):
    def __init__(self, schema, **settings):
        super().__init__(schema, settings["labels"])
""",
        r"Mine: latent_dims is 2 instead of 3; its __init__ must pass latent_dims on to VAE's",
    ),
    "settings are not taken": (
        """
class Mine(Base):
    def __init__(self, schema, latent_dims):
        super().__init__(schema, latent_dims=latent_dims)
""",
        r"Mine: labels is 'given' instead of 'none'; its __init__ must pass labels on to VAE's",
    ),
    "an argument is in no file": (
        """
class Mine(Base):
    def __init__(self, schema, depth, **settings):
        super().__init__(schema, **settings)
""",
        r"Mine: its __init__ needs depth, which params\.yaml lacks; give it a default, or add the parameter",
    ),
    "the schema is not taken": (
        """
class Mine(Base):
    def __init__(self, **settings):
        super().__init__(MNIST, **settings)
""",
        r"Mine: its __init__ lacks the argument schema, which must come first",
    ),
    "a method is missing": (
        """
class Mine(VAE):
    def encode(self, x, y):
        return x, x
""",
        r"model is cvae\.models\.mine:Mine, but Mine does not define logits",
    ),
    "the class is another": ("class Yours(Base): pass", r"but cvae\.models\.mine has no class of that name"),
    "it is no model": ("Mine = torch.nn.Linear", r"but Mine is not a subclass of cvae\.model\.VAE"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_model_is_reported_in_one_line(write, fault):
    code, message = BROKEN[fault]
    with pytest.raises(UserError, match=message) as raised:
        build(write(code), MNIST, SETTINGS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    {
        "cvae.models.yours:Mine": r"but there is no cvae/models/yours\.py in src",
        "cvae.model:CVEA": r"but cvae\.model has no class of that name",
        "cvae.model:VAE": r"VAE",
        "cvae.objective:Mine": r"allowed: cvae\.model:CVAE, or cvae\.models\.FILE:CLASS",
        "mine:Mine": r"allowed: cvae\.model:CVAE",
    }.items(),
)
def test_a_name_without_a_model_is_reported_in_one_line(name, message):
    with pytest.raises(UserError, match=rf"^model is {name}.*{message}") as raised:
        build(name, MNIST, SETTINGS)
    assert "\n" not in str(raised.value)


def test_a_module_that_imports_a_missing_one_says_which(write):
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        build(write("import nowhere"), MNIST, SETTINGS)
