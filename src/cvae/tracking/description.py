"""Describe runs, the experiment and models in Markdown. MLflow's UI shows it at the top of their pages."""

import re
from typing import TYPE_CHECKING

from cvae.data.dataset import Schema, classes_in_words, shape_in_words
from cvae.pipeline.parameters import Parameters
from cvae.support.errors import one_line
from cvae.tracking.tasks import applicable

if TYPE_CHECKING:
    from cvae.model import VAE

NOTE = "mlflow.note.content"  # MLflow's tag for descriptions of runs, experiments and logged models

OF_EXPERIMENT = """\
Each run is one result of the pipeline in `dvc.yaml`: its parameters, curves, test figures, model and pictures. It does
not matter whether DVC ran the stages or took the result from its cache.

- **Charts** (the icon above the list of runs): `train/…` and `test/…` are curves over the epochs, in nats per image.
  `final_test/…` are the trained model's test figures. Runs with validation images have the curve `validation/…` and the
  figures `final_validation/…`: choose by these. Images are grids per class, with one column per run.
- **Compare** (tick two runs): parameters and figures side by side, and the overview pictures under *Artifacts*.
"""

OF_REGISTERED_MODEL = "Models of the pipeline in `dvc.yaml`. Each version describes the table that it takes.\n"


def of_model(model: "VAE") -> str:
    """Describe the served model: what it was trained on, its input and its output."""
    schema, classes = model.schema, _escaped(classes_in_words(model.schema.classes))
    kind = "conditional variational autoencoder" if model.label_count else "variational autoencoder without labels"
    sides = " by ".join(map(str, schema.picture_shape))
    lines = [
        f"A {kind}, trained on {_escaped(schema.title) or 'images'}: {classes}, {shape_in_words(schema.shape)} pixels.",
        "It generates images, and encodes and reconstructs your own. The input is a table with one row per image:",
        "",
    ]
    label = "the name of a class; if no name is a number, also its position, counted from 0; required"
    lines += [
        f"- `label`: {label if model.label_count else 'ignored'}",
        "- `z_0`, `z_1`, …: latents; if null or missing, they are sampled from the prior with the parameter `seed`",
        f"- `image`: an image to encode, as {sides} or {schema.image_dims} numbers in [0, 1], in a row without latents",
        "",
        "The output has one row for each input row, in the same order:",
        "",
        f"- `image`: the decoder's mean image, as {sides} numbers in [0, 1]",
        "- `z`: the latents that were decoded: as given, as sampled, or the posterior mean for an image",
        "",
        "`make serve` serves the model.",
    ]
    return "\n".join(lines) + "\n"


def of_run(params: dict, tags: dict[str, str], schema: Schema | None = None, explorer: str = "") -> str:
    """Describe a run: its data, its parameters (changed ones first, bold), and how to restore it with DVC.

    `tags` are the run's; they name the commit, the experiments and DVC's hashes. `explorer` is where the UI shows the
    explorer. A run that is still training has neither `schema` nor `explorer`.
    """
    defaults, params = Parameters().model_dump(), applicable(params)
    changed = [name for name in params if params[name] != defaults.get(name)]
    link = []
    if explorer:
        also = "learning.png, beside it, shows what the decoder drew in the course of the training."
        link = [f"[Play with the model]({explorer}): explorer.html, among the artifacts. {also}", ""]
    lines = [*_data(params, schema), *link, "| parameter | value | default |", "| --- | --- | --- |"]
    lines += [f"| **{name}** | **{params[name]}** | {defaults.get(name, '')} |" for name in changed]
    lines += [f"| {name} | {params[name]} | |" for name in params if name not in changed]
    return "\n".join([*lines, "", *_identities(tags)]) + "\n"


def _data(params: dict, schema: Schema | None) -> list[str]:
    """Return a paragraph about the data, and about the model if it is not the article's."""
    if schema is None:
        return []
    classes, shape = classes_in_words(schema.classes), shape_in_words(schema.shape)
    parts = [f"{schema.title or params['dataset']}: {classes}, {shape} pixels"]
    if params["labels"] == "none":
        parts.append("the model never sees the labels")
    if params["model"] != Parameters.model_fields["model"].default:
        parts.append(f"the model is {params['model']}")
    return [f"{_escaped('; '.join(parts))}.", ""]


def _escaped(text: str) -> str:
    """Return `text` so that Markdown shows it as it is; people choose the names of classes."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", one_line(text))


def _identities(tags: dict[str, str]) -> list[str]:
    lines = []
    for name in tags.get("dvc.experiments", tags.get("dvc.experiment", "")).split():
        lines.append(f"- DVC experiment `{name}`: `dvc exp apply {name}` brings its files back")
    if commit := tags.get("git.commit"):
        edited = ", with code edited since" if tags.get("git.dirty") == "true" else ""
        lines.append(f"- run from git commit `{commit[:12]}`{edited}")
    for path in ("data/raw", "data/model"):
        if digest := tags.get(f"dvc.{path.replace('/', '.')}"):
            lines.append(f"- `{path}` has `md5: {digest}` in dvc.lock")
    return lines
