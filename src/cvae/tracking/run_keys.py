"""Keys that identify runs: hashes of what a run records."""

from cvae.pipeline.dvc_yaml import fingerprint, paths, stage

MODEL = "data/model"
HISTORY = "plots/training.csv"
THUMBNAILS = "plots/thumbnails"
RECEIPT = "data/tracked.json"
DESTINATION = "registered_model"  # the only parameter that changes no result


def recorded(params: dict) -> dict:
    """Return the parameters that a run records: all except `registered_model`, which may change later."""
    return {name: value for name, value in params.items() if name != DESTINATION}


def training_key(params: dict) -> str:
    """Hash the parameters that train reads and the files that it wrote."""
    return fingerprint({name: params[name] for name in training_parameters()}, [MODEL, HISTORY])


def inputs_key(params: dict) -> str:
    """Hash what decides whether DVC trains again: the parameters, code and data that train reads."""
    described = stage("train")
    return fingerprint({name: params[name] for name in described["params"]}, paths(described, "deps"))


def pipeline_key(params: dict) -> str:
    """Hash the recorded parameters and every result in the workspace that track records."""
    return fingerprint(recorded(params), results())


def training_parameters() -> list[str]:
    """Return the parameters that train reads, by dvc.yaml."""
    return stage("train")["params"]


def results() -> list[str]:
    """Return the files and folders of other stages that track reads, by dvc.yaml. It records all of them."""
    return [dep for dep in paths(stage("track"), "deps") if not dep.startswith(("src/", "stages/"))]
