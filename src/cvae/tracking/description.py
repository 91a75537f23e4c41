"""Describe runs, the experiment and models in Markdown. MLflow's UI shows it at the top of their pages."""

from cvae.pipeline.parameters import Parameters

NOTE = "mlflow.note.content"  # MLflow's tag for descriptions of runs, experiments and logged models

OF_EXPERIMENT = """\
Each run is one result of the pipeline in `dvc.yaml`: its parameters, curves, test figures, model and pictures. It does
not matter whether DVC ran the stages or took the result from its cache.

- **Charts** (the icon above the list of runs): `train/…` and `test/…` are curves over the epochs, in nats per image.
  `final_test/…` are the trained model's test figures. Images are grids per digit, with one column per run.
- **Compare** (tick two runs): parameters and figures side by side, and the overview pictures under *Artifacts*.
"""

OF_MODEL = """\
A conditional variational autoencoder. It generates images of a digit, and encodes and reconstructs your own.
The input is a table with one row per image:

- `digit`: a whole number from 0 to 9; required
- `z_0`, `z_1`, …: latents; if null or missing, they are sampled from the prior with the parameter `seed`
- `image`: an image to encode, as 28 by 28 or 784 pixels in [0, 1]; its row must have no latents

The output has one row for each input row, in the same order:

- `image`: the decoder's mean image, as 28 by 28 pixels in [0, 1]
- `z`: the latents that were decoded: as given, as sampled, or the mean of q(z|x,y) for an image

`make serve` serves the model.
"""


def of_run(params: dict, tags: dict[str, str]) -> str:
    """Return a table of the parameters, changed ones first and bold, and how to get the same result from DVC.

    `tags` are the run's; they name the commit, the experiments and DVC's hashes.
    """
    defaults = Parameters().model_dump()
    changed = [name for name in params if params[name] != defaults[name]]
    lines = ["| parameter | value | default |", "| --- | --- | --- |"]
    lines += [f"| **{name}** | **{params[name]}** | {defaults[name]} |" for name in changed]
    lines += [f"| {name} | {params[name]} | |" for name in params if name not in changed]
    return "\n".join([*lines, "", *_identities(tags)]) + "\n"


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
