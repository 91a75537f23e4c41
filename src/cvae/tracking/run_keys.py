"""Keys by which a run is found again: hashes of what it records."""

from cvae.pipeline.dvc_yaml import fingerprint, stage

MODEL = "data/model"
HISTORY = "plots/training.csv"
TEST_FIGURES = "metrics/test.json"
RECEIPT = "data/tracked.json"
DESTINATION = "registered_model"  # the one parameter that changes no result


def recorded(params: dict) -> dict:
    """The parameters that a run records: all but where the model goes, which may be decided later."""
    return {name: value for name, value in params.items() if name != DESTINATION}


def training_key(params: dict) -> str:
    """Of the parameters that train reads, and of what training made in the workspace."""
    return fingerprint({name: params[name] for name in training_parameters()}, [MODEL, HISTORY])


def inputs_key(params: dict) -> str:
    """Of all that DVC goes by to know a training again: the parameters, code and data that train reads."""
    described = stage("train")
    return fingerprint({name: params[name] for name in described["params"]}, described["deps"])


def pipeline_key(params: dict) -> str:
    """Of the parameters that a run records, and of every result in the workspace that track records."""
    return fingerprint(recorded(params), results())


def training_parameters() -> list[str]:
    """The parameters that dvc.yaml says train reads."""
    return stage("train")["params"]


def results() -> list[str]:
    """The files and folders, made by other stages, that dvc.yaml says track reads; all of them are recorded."""
    return [dep for dep in stage("track")["deps"] if not dep.startswith(("src/", "stages/"))]
