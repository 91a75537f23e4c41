"""What the pages of a run, of the experiment and of a model in MLflow say at their top, in Markdown."""

from cvae.pipeline.parameters import Parameters

NOTE = "mlflow.note.content"  # MLflow's tag of a run's, an experiment's and a logged model's description

OF_EXPERIMENT = """\
Each run is one result of the pipeline in `dvc.yaml`: its parameters, its curves, its test figures, its model and
its pictures, whichever way DVC came by it.

- **Charts** (the icon above the list of runs): `train/…` and `test/…` are the curves over the epochs, in nats per
  image; `final_test/…` are the trained model's figures; images are grids per digit, one column a run.
- **Compare** (tick two runs): parameters and figures side by side, and under *Artifacts* the overview pictures.
"""

OF_MODEL = """\
A conditional variational autoencoder: it draws images of a digit, and encodes and reconstructs given ones.
A table in, a row an image:

- `digit`: a whole number from 0 to 9; required
- `z_0`, `z_1`, …: latents; where null or missing, drawn from the prior by the parameter `seed`
- `image`: 28 by 28 or 784 pixels in [0, 1]; such a row has no latents, and is encoded

A table out, a row for each: `image`, 28 by 28 pixels in [0, 1], and `z`, the latents that it was decoded from.
`make serve` serves it.
"""


def of_run(params: dict, tags: dict[str, str]) -> str:
    """A table of the parameters, the changed ones first and bold, and how to find the same result with DVC.

    `tags`: the run's, of which those that name commit, experiments and hashes are read.
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
