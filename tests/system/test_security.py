"""What must not happen: that data is run as code, that a server is open to others, that a message tells a secret."""

import ast
import http.client
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import psutil
import pytest
from helpers.processes import closed_port, end, environment, is_served, wait_for
from helpers.repository import PROJECT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cvae.pipeline.parameters import load_yaml
from cvae.support.errors import UserError, shown

# Data is not run

UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "joblib", "dill", "shelve", "marshal", "jsonpickle"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"torch.load", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle"}
SAFE_LOADERS = {"yaml.SafeLoader", "_YAML12Loader"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def dangers(code: str) -> Iterator[str]:
    """What in `code` runs data as code, or a string in a shell."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.partition(".")[0] in UNPICKLERS)
            case ast.ImportFrom(module=module, names=names):
                named = [f"{module}.{name.name}" for name in names]
                yield from (name for name in named if module in UNPICKLERS or name in LOADERS | SHELLS)
            case ast.Call(func=function, keywords=keywords):
                called = ast.unparse(function)
                safe = any(ast.unparse(keyword.value) in SAFE_LOADERS for keyword in keywords)
                if called in RUNNERS | LOADERS | SHELLS and not safe:
                    yield called
                for keyword in keywords:
                    allowed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
                    if keyword.arg in ("shell", "allow_pickle") and not allowed:
                        yield f"{called}({keyword.arg}=…)"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import pickle", "pickle"),
        ("def f():\n    from cloudpickle import loads", "cloudpickle.loads"),
        ("from torch import load", "torch.load"),
        ("model = torch.load(path)", "torch.load"),
        ("np.load(path, allow_pickle=True)", "np.load(allow_pickle=…)"),
        ("yaml.load(text, Loader=yaml.Loader)", "yaml.load"),
        ("eval(text)", "eval"),
        ("subprocess.run(f'ls {folder}', shell=True)", "subprocess.run(shell=…)"),
        ("os.system(command)", "os.system"),
    ],
)
def test_a_danger_would_be_found(code, told):
    assert list(dangers(code)) == [told]


def test_no_code_of_ours_unpickles_evaluates_or_starts_a_shell():
    files = [file for folder in ("src", "stages", "benchmarks", ".dvc") for file in (PROJECT / folder).rglob("*.py")]
    assert len(files) > 40
    assert {str(file): found for file in files if (found := list(dangers(file.read_text())))} == {}


def test_a_file_of_parameters_makes_no_objects_but_plain_ones():
    with pytest.raises(ValueError, match="could not determine a constructor"):
        load_yaml("!!python/object/apply:os.getcwd []")


def test_the_launcher_alone_reaches_the_shell_that_dvc_starts_stages_in():
    assert re.findall(r"\$\{.*?\}", (PROJECT / "dvc.yaml").read_text()) == ["${launcher}"]


LOADED_BY_EVERY_WAY = """
import sys
found = []
sys.addaudithook(lambda event, details: found.append(details) if event == "pickle.find_class" else None)
from cvae.artifacts import saved_model
from cvae.model import CVAE
from cvae.tracking.fetch import fetch_run
folder, _ = fetch_run(sys.argv[1], sys.argv[2])
saved_model.load(folder)
import mlflow, pandas
mlflow.pyfunc.load_model(str(folder.parents[1])).predict(pandas.DataFrame({"digit": [3]}))
print(found)
import pickle, pathlib
pickle.loads(pickle.dumps(pathlib.Path))  # that the hook does see what it is there for
print(len(found))
"""


def test_nothing_is_unpickled_where_a_model_is_loaded(repository, tmp_path):
    (run,) = repository.runs()
    done = repository.run(sys.executable, "-c", LOADED_BY_EVERY_WAY, run.info.run_id, str(tmp_path), PYTHONPATH="src")
    assert done.stdout.splitlines()[-2:] == ["[]", "1"]


# Nobody else is served, nor can read an address that has a password among a program's arguments


def test_the_ui_listens_on_this_machine_alone_and_its_arguments_have_no_address_of_the_store(empty_database, tmp_path):
    (tmp_path / "mlflow.db").write_bytes(empty_database.read_bytes())
    (tmp_path / "dvc.yaml").touch()
    port = closed_port()
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cvae", "ui", "--port", str(port)],
            cwd=tmp_path,
            env=environment(
                PYTHONPATH=str(PROJECT / "src"),
                MLFLOW_SERVER_ALLOWED_HOSTS="lab.org,localhost:*",
                MLFLOW_SERVER_CORS_ALLOWED_ORIGINS="https://lab.org",
            ),
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(lambda: process.poll() is not None or is_served(f"http://127.0.0.1:{port}/health"))
        assert process.poll() is None, (tmp_path / "log").read_text()
        server = psutil.Process(process.pid)
        family = [server, *server.children(recursive=True)]
        listening = {
            (connection.laddr.ip, connection.laddr.port)
            for each in family
            for connection in each.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {("127.0.0.1", port)}
        assert not [each for each in family if "mlflow.db" in " ".join(each.cmdline())]

        # Behind a proxy it answers to the names that README's variables give it, and to no others.
        for host, page, status in (
            ("lab.org", "https://lab.org", 200),
            (f"localhost:{port}", f"http://localhost:{port}", 200),
            ("elsewhere.org", "https://elsewhere.org", 403),
            ("lab.org", "https://elsewhere.org", 403),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {"Host": host, "Origin": page, "Content-Type": "application/json"}
            connection.request("POST", "/ajax-api/2.0/mlflow/runs/search", b'{"experiment_ids": ["1"]}', headers)
            assert connection.getresponse().status == status, (host, page)
            connection.close()
    finally:
        end(process)


# A message tells no secret


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://u:p@host:5000/x", "http://host:5000/x"),
        ("postgresql://u:p%40ss@host/db", "postgresql://host/db"),
        ("http://u:p/a?s#s@host/x: refused", "http://host/x: refused"),
        ("http://u:p@host http://v:q@other", "http://host http://other"),
        ("https://host/x?token=p&X-Amz-Signature=p: HTTP 403", "https://host/x?… HTTP 403"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dp", "mssql+pyodbc:///?…"),
        ("got ('http://host/x?sig=p', 3)", "got ('http://host/x?…', 3)"),
        ("{'Authorization': 'Basic dTpw', 'x': 'Bearer abc.d-e_f=='}", "{'Authorization': 'Basic …', 'x': 'Bearer …'}"),
        ("was it moved? perhaps; models:/cvae@best", "was it moved? perhaps; models:/cvae@best"),
        ("a\x1b[2Jb\nc", "a[2Jb\nc"),
        ("in /home/zoë/cvae, at file:///home/zoë", "in ~/cvae, at file://~"),
        ("/home/zoë2 /mnt/home/zoë /home", "/home/zoë2 /mnt/home/zoë /home"),
    ],
)
def test_what_is_shown_has_no_secret_and_not_the_home_folder(monkeypatch, text, told):
    monkeypatch.setenv("HOME", "/home/zoë")
    assert shown(text) == str(UserError(text)) == told
    assert shown(told) == told


@pytest.mark.parametrize("home", ["/", ""])
def test_a_home_folder_that_is_none_is_not_replaced(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    assert shown("/tmp/x") == "/tmp/x"


# The dependencies


def requirements(name: str) -> list[Requirement]:
    lines = [line.partition(" #")[0].strip() for line in (PROJECT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("-", "#"))]


def test_every_dependency_is_pinned_to_one_version_which_is_the_one_installed():
    pinned = requirements("constraints.txt")
    direct = requirements("requirements.txt")
    for requirement in pinned + direct:
        (version,) = requirement.specifier
        assert version.operator == "==", requirement
        assert "*" not in version.version, requirement
        if requirement.marker is None or requirement.marker.evaluate():
            assert metadata.version(requirement.name) in requirement.specifier, requirement
    names, own = ({canonicalize_name(each.name) for each in listed} for listed in (pinned, direct))
    assert own <= names
    assert not [each for each in pinned + direct if each.url], "from the package index, not from an address"
