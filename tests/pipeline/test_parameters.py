"""params.yaml: what is accepted, and one line about anything else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from cvae.pipeline.parameters import Parameters, check_parameters, read_parameters
from cvae.support.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = Parameters().model_dump()
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
SCHEMAS = Parameters.model_json_schema()["properties"]
RANGES = {
    key: schema
    for key in DEFAULTS
    if {"maximum", "exclusiveMaximum"} & (schema := SCHEMAS[key].get("anyOf", [SCHEMAS[key]])[0]).keys()
}
ANY_TEXT = [
    key for key, schema in SCHEMAS.items() if schema.get("type") == "string" and not {"enum", "pattern"} & {*schema}
]
MODELS = "cvae.model:CVAE, or cvae.models.FILE:CLASS for a class in src/cvae/models/FILE.py"


def params_yaml(**written: str) -> str:
    """Return a params.yaml with the defaults, except for the values in `written`, which are copied as they are."""
    lines = {key: json.dumps(value) for key, value in DEFAULTS.items()} | written
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "params.yaml"


def refusal(file: Path, content: str | bytes) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as raised:
        read_parameters(file)
    message = str(raised.value)
    assert message.startswith(str(file))
    assert message.isprintable(), "more than one line, or a control character"
    return message.removeprefix(str(file))


def test_values_in_range_are_read_as_written(file):
    file.write_text(params_yaml(dataset="kmnist", latent_dims="1024", beta="0", learning_rate="10", device="cuda:1"))
    changed = {"dataset": "kmnist", "latent_dims": 1024, "beta": 0.0, "learning_rate": 10.0, "device": "cuda:1"}
    assert read_parameters(file).model_dump() == DEFAULTS | changed


@pytest.mark.parametrize(
    ("key", "written", "shown", "allowed"),
    [
        ("hidden_dims", "[]", "[]", "a whole number from 1 to 65536, or a list of 1 to 16 of them"),
        ("hidden_dims", "[200, 0]", "[200, 0]", "a whole number from 1 to 65536, or a list of 1 to 16 of them"),
        ("hidden_dims", "[200, 2.0]", "[200, 2.0]", "a whole number from 1 to 65536, or a list of 1 to 16 of them"),
        ("hidden_dims", "[[200]]", "[[200]]", "a whole number from 1 to 65536, or a list of 1 to 16 of them"),
        ("hidden_dims", "65537", "65537", "a whole number from 1 to 65536, or a list of 1 to 16 of them"),
        ("registered_model", "a/b", "'a/b'", "a name of letters, digits, spaces and _ . -, or '' for none"),
        ("registered_model", "null", "null", "a name of letters, digits, spaces and _ . -, or '' for none"),
        ("binarize", "true", "true", "one of none, dynamic, static"),
        ("activation", "swish7", "'swish7'", "one of article, relu, tanh, sigmoid"),
        ("latent_dims", "true", "true", "a whole number from 1 to 1024"),
        ("latent_dims", "4.0", "4.0", "a whole number from 1 to 1024"),
        ("latent_dims", "1e3", "1000.0", "a whole number from 1 to 1024"),
        ("latent_dims", "0", "0", "a whole number from 1 to 1024"),
        ("latent_dims", "-1", "-1", "a whole number from 1 to 1024"),
        ("latent_dims", "1025", "1025", "a whole number from 1 to 1024"),
        ("latent_dims", "abc", "'abc'", "a whole number from 1 to 1024"),
        ("grid_range", "1e-300", "1e-300", "a number from 0.001 to 100"),
        ("latent_dims", "'010'", "'010'", "a whole number from 1 to 1024"),
        ("latent_dims", "null", "null", "a whole number from 1 to 1024"),
        ("latent_dims", "", "null", "a whole number from 1 to 1024"),
        ("latent_dims", "[2, 4]", "[2, 4]", "a whole number from 1 to 1024"),
        ("latent_dims", "{a: 1}", "{'a': 1}", "a whole number from 1 to 1024"),
        ("latent_dims", ".nan", "nan", "a whole number from 1 to 1024"),
        ("beta", ".nan", "nan", "a number from 0 to 10000.0"),
        ("beta", ".inf", "inf", "a number from 0 to 10000.0"),
        ("beta", "1e400", "inf", "a number from 0 to 10000.0"),
        ("beta", "true", "true", "a number from 0 to 10000.0"),
        ("beta", "'1.0'", "'1.0'", "a number from 0 to 10000.0"),
        ("learning_rate", "0", "0", "a number above 0, up to 10"),
        ("channels", "2", "2", "one of 1, 3"),
        ("channels", "1.0", "1.0", "one of 1, 3"),
        ("image_size", "7", "7", "a whole number from 8 to 256"),
        ("test_share", "1", "1", "a number above 0 and below 1"),
        ("images", "''", "''", "a folder in this repository, or an absolute path"),
        ("images", ".", "'.'", "a folder in this repository, or an absolute path"),
        ("images", "../mine", "'../mine'", "a folder in this repository, or an absolute path"),
        ("images", "data/../../mine", "'data/../../mine'", "a folder in this repository, or an absolute path"),
        ("images", "~/mine", "'~/mine'", "a folder in this repository, or an absolute path"),
        ("images", '"a\\nb"', r"'a\nb'", "a folder in this repository, or an absolute path"),
        ("prior_std", "-1.5", "-1.5", "a number from 0.001 to 1000.0"),
        ("dataset", "MNIST", "'MNIST'", f"one of {', '.join(SCHEMAS['dataset']['enum'])}"),
        ("dataset", "no", "'no'", f"one of {', '.join(SCHEMAS['dataset']['enum'])}"),
        ("dataset", "[mnist]", "['mnist']", f"one of {', '.join(SCHEMAS['dataset']['enum'])}"),
        ("labels", "true", "true", "one of given, none"),
        ("labels", "null", "null", "one of given, none"),
        ("labels", "None", "'None'", "one of given, none"),
        ("model", "CVAE", "'CVAE'", MODELS),
        ("model", "cvae.model", "'cvae.model'", MODELS),
        ("model", "cvae.models:CVAE", "'cvae.models:CVAE'", MODELS),
        ("model", "cvae.modell:CVAE", "'cvae.modell:CVAE'", MODELS),
        ("model", "cvae.models.own.CVAE", "'cvae.models.own.CVAE'", MODELS),
        ("model", "src/cvae/models/own.py:CVAE", "'src/cvae/models/own.py:CVAE'", MODELS),
        ("model", "'cvae.model: CVAE'", "'cvae.model: CVAE'", MODELS),
        ("model", "os:system", "'os:system'", MODELS),
        ("likelihood", "'gaussian '", "'gaussian '", "one of gaussian, bernoulli"),
        ("device", "gpu", "'gpu'", "auto, cpu, mps, cuda or cuda:N"),
        ("device", "cuda:1234", "'cuda:1234'", "auto, cpu, mps, cuda or cuda:N"),
        ("device", '"cpu\\n"', r"'cpu\n'", "auto, cpu, mps, cuda or cuda:N"),
        ("precision", "float64", "'float64'", "one of float32, tf32, bfloat16"),
        ("launcher", "''", "''", "a command that starts train"),
        ("launcher", "2", "2", "a command that starts train"),
        ("device", "cuda:٣", "'cuda:٣'", "auto, cpu, mps, cuda or cuda:N"),
    ],
)
def test_a_bad_value_is_reported_with_its_key_and_what_is_allowed(file, key, written, shown, allowed):
    assert refusal(file, params_yaml(**{key: written})) == f": {key} is {shown}; allowed: {allowed}"


@pytest.mark.parametrize("key", DEFAULTS)
@pytest.mark.parametrize(
    "written", ["null", "true", "[a]", "{a: 1}", "'1'", ".nan", "-.inf", "2001-01-01", "!!set {1}"]
)
def test_no_key_accepts_a_value_of_another_type(file, key, written):
    if not (key in ANY_TEXT and written == "'1'"):
        assert refusal(file, params_yaml(**{key: written})).startswith(f": {key} is ")


@pytest.mark.parametrize("folder", ["data/own", "my images/of cats", "data/x/../own", "/data/flowers", "/data/../own"])
def test_images_may_be_in_any_folder_here_or_at_an_absolute_path(file, folder):
    file.write_text(params_yaml(images=json.dumps(folder)))
    assert read_parameters(file).images == folder


def test_hidden_dims_may_be_a_list(file):
    file.write_text(params_yaml(hidden_dims="[200, 100]"))
    assert read_parameters(file).hidden_dims == [200, 100]


@pytest.mark.parametrize("key", RANGES)
def test_each_range_includes_its_ends_and_nothing_beyond(key):
    schema = RANGES[key]
    low, high = (schema.get(f"{end}imum", schema.get(f"exclusive{end.title()}imum")) for end in ("min", "max"))
    number = type(DEFAULTS[key])
    included = [number(end) for end, name in ((low, "minimum"), (high, "maximum")) if name in schema]
    excluded = [number(end) for end in (low, high) if number(end) not in included]
    others = DEFAULTS | {"validation_images": 1}  # without them, patience is refused
    for value in included:
        assert getattr(check_parameters(others | {key: value}), key) == value
    for value in [number(high) * 2, number(low) - 1, *excluded]:
        with pytest.raises(UserError, match=rf"^params\.yaml: {key} is {re.escape(str(value))}; allowed: "):
            check_parameters(others | {key: value})


def test_stopping_early_needs_validation_images(file):
    assert refusal(file, params_yaml(patience=5)).startswith(": patience is 5, but there are no validation images")


def test_an_unknown_key_is_reported_with_all_known_ones(file):
    message = f" is not a parameter; allowed: {', '.join(DEFAULTS)}"
    assert refusal(file, params_yaml() + "colour: red\n") == f": 'colour'{message}"
    assert refusal(file, params_yaml().replace("latent_dims", "latent_dim")) == f": 'latent_dim'{message}"
    assert refusal(file, params_yaml() + "7: 1\n") == f": 7{message}"


@pytest.mark.parametrize("key", DEFAULTS)
def test_a_missing_key_is_reported_with_what_is_allowed(file, key):
    content = re.sub(rf"(?m)^{key}: .*\n", "", params_yaml())
    assert refusal(file, content).startswith(f": {key} is missing; allowed: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": empty; `git checkout "),
        ("# only a comment\n", ": empty; `git checkout "),
        ("- latent_dims\n- 4\n", ": must be lines of `key: value`, not ['latent_dims', 4]"),
        ("latent_dims 4\n", ": must be lines of `key: value`, not 'latent_dims 4'"),
        ("epochs: 1\nlatent_dims: [4\n", ": not YAML (line 3, column 1: "),
        ("epochs:\n\t- 4\n", ": not YAML (line 2, column 1: "),
        ("epochs: *undefined\n", ": not YAML (line 1, column 9: "),
        ("epochs: 1\n---\nepochs: 2\n", ": not YAML ("),
        ("epochs: !!python/object/apply:os.getcwd []\n", ": not YAML (line 1, column 9: "),
        ("seed: 1\nepochs: 2\n'seed': 3\n", ": not YAML (line 3, column 1: "),
        ("dataset: café\n".encode("latin-1"), ": not YAML ('utf-8' codec can't decode byte 0xe9"),
        (params_yaml().encode("utf-16"), ": not YAML ('utf-8' codec can't decode byte 0xff"),
        (b"epochs: 1\0", ": not YAML ("),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_malformed_params_yaml_is_reported_with_the_place(file, content, message):
    assert refusal(file, content).startswith(message)


def test_a_file_that_cannot_be_opened_is_reported_with_a_remedy(file):
    with pytest.raises(UserError) as missing:
        read_parameters(file)
    remedy = f"`git checkout HEAD {file}` brings it back"
    assert str(missing.value) == f"{file}: cannot be read (No such file or directory); {remedy}"
    file.mkdir()
    with pytest.raises(UserError, match=r"^[^\n]*params\.yaml: cannot be read \(Is a directory\)[^\n]*$"):
        read_parameters(file)


def test_a_long_value_is_cut_in_the_message(file):
    assert len(refusal(file, params_yaml(device="x" * 10_000))) < 200


@pytest.mark.parametrize("value", [1e-05, 2.5e-07, 1.0, 10])
def test_a_number_that_dvc_wrote_is_read(file, value):
    from dvc.utils.serialize import dumps_yaml

    file.write_text(dumps_yaml(DEFAULTS | {"learning_rate": value}))
    assert read_parameters(file).learning_rate == value


def test_a_number_with_a_leading_zero_is_decimal(file):
    file.write_text(params_yaml(latent_dims="010", seed="08"))
    assert (read_parameters(file).latent_dims, read_parameters(file).seed) == (10, 8)


def test_a_byte_order_mark_and_windows_line_endings_are_accepted(file):
    file.write_bytes(params_yaml().replace("\n", "\r\n").encode("utf-8-sig"))
    assert read_parameters(file) == Parameters()


def test_parameters_are_immutable():
    with pytest.raises(ValueError, match="frozen"):
        Parameters().epochs = 1


@pytest.mark.skipif("AS_PUBLISHED" not in os.environ, reason="params.yaml is yours to edit")
def test_the_published_params_yaml_has_the_defaults(file):
    """Not the one in the working tree, where `dvc exp run -S` leaves its values."""
    shown = subprocess.run(["git", "show", ":params.yaml"], cwd=ROOT, capture_output=True, text=True)
    if shown.returncode != 0:
        pytest.skip("not in a git repository")
    file.write_text(shown.stdout)
    assert read_parameters(file) == Parameters(), "of the params.yaml that git has: `git add` a change first"


def test_every_key_of_params_yaml_has_a_comment():
    lines = [line for line in (ROOT / "params.yaml").read_text().splitlines() if re.match(r"\w+:", line)]
    assert [line.split(":")[0] for line in lines] == list(DEFAULTS)
    assert [line for line in lines if not re.search(r" # *\w.{8,}", line)] == []


def test_reading_parameters_imports_nothing_slow(file):
    file.write_text(params_yaml())
    code = """if True:
        import json, sys
        from cvae.pipeline.parameters import read_parameters
        read_parameters(sys.argv[1])
        print(json.dumps(sorted({"torch", "torchvision", "mlflow", "pandas", "matplotlib"} & set(sys.modules))))
    """
    done = subprocess.run(
        [sys.executable, "-c", code, file], cwd=ROOT / "src", capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.fixture
def workspace(tmp_path):
    """A copy of the code with earlier results, in which importing torch or MLflow fails."""
    for folder in ("src", "stages"):
        copytree(ROOT / folder, tmp_path / folder, ignore=ignore_patterns("__pycache__"))
    for module in ("torch", "torchvision", "mlflow"):
        (tmp_path / f"{module}.py").write_text("raise RuntimeError(f'{__name__} was imported')\n")
    outputs = ("data/raw/a", "data/model/a", "data/latents.parquet", "data/tracked.json", "metrics/train.json")
    for output in (*outputs, "metrics/test.json", "plots/training.csv", "plots/latents/0.png", "plots/latents.png"):
        (tmp_path / output).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / output).write_text("earlier")
    return tmp_path


def run_stage(stage: str, workspace: Path) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "PYTHON", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=workspace,
        env=env | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_refuses_a_bad_parameter_before_it_imports_torch_or_touches_an_output(stage, workspace):
    (workspace / "params.yaml").write_text(params_yaml(latent_dims="4.0"))
    before = contents(workspace)
    done = run_stage(stage, workspace)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"{stage}: params.yaml: latent_dims is 4.0; allowed: a whole number from 1 to 1024\n"
    assert contents(workspace) == before


def test_a_stage_with_good_parameters_imports_torch(workspace):
    (workspace / "params.yaml").write_text(params_yaml())
    assert "torch was imported" in run_stage("train", workspace).stderr


def test_a_stage_without_params_yaml_reports_it_in_one_line(workspace):
    done = run_stage("train", workspace)
    assert done.returncode == 1
    assert done.stderr.startswith("train: params.yaml: cannot be read (No such file or directory)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("cvae.models.missing:CVAE", "but there is no cvae/models/missing.py in src"),
        ("cvae.model:CVEA", "but cvae.model has no class of that name"),
        ("cvae.model:ConditionalLinear", "but ConditionalLinear is not a subclass of cvae.model.VAE"),
    ],
    ids=["module", "class", "kind"],
)
def test_train_reports_a_model_that_is_not_there_in_one_line_before_it_starts(repository, tmp_path, model, message):
    clone = repository.copy(tmp_path / "cvae", ".git", ".dvc", "metrics", "plots")
    clone.set(model=model)
    done = clone.run(sys.executable, "-m", "stages.train", status=1)
    assert (done.stdout, done.stderr) == ("", f"train: model is {model}, {message}\n")
