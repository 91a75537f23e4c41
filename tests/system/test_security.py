"""Data is never run as code, servers are open to this machine only, and messages contain no secrets."""

import http.client
import subprocess
import sys
from importlib import metadata

import psutil
import pytest
from helpers.processes import closed_port, end, environment, is_served, wait_for
from helpers.repository import PROJECT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cvae.pipeline.parameters import load_yaml
from cvae.support.errors import UserError, shown

# Data is never run as code


def test_params_yaml_cannot_create_objects():
    with pytest.raises(ValueError, match="could not determine a constructor"):
        load_yaml("!!python/object/apply:os.getcwd []")


LOAD_IN_ALL_WAYS = """
import sys
found = []
sys.addaudithook(lambda event, details: found.append(details) if event == "pickle.find_class" else None)
from cvae.artifacts import saved_model
from cvae.model import CVAE
from cvae.tracking.fetch import fetch_run
folder, _ = fetch_run(sys.argv[1], sys.argv[2])
saved_model.load(folder)
import mlflow, pandas
mlflow.pyfunc.load_model(str(folder.parents[1])).predict(pandas.DataFrame({"label": [3]}))
print(found)
import pickle, pathlib
pickle.loads(pickle.dumps(pathlib.Path))  # to prove that the hook works
print(len(found))
"""


def test_loading_a_model_unpickles_nothing(repository, tmp_path):
    (run,) = repository.runs()
    done = repository.run(sys.executable, "-c", LOAD_IN_ALL_WAYS, run.info.run_id, str(tmp_path), PYTHONPATH="src")
    assert done.stdout.splitlines()[-2:] == ["[]", "1"]


# Servers


def test_the_ui_listens_on_this_machine_only_and_hides_the_address_of_the_store(empty_database, tmp_path):
    """Other users can read the arguments of a process, and the address may contain a password."""
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

        # Behind a proxy it accepts the names in the variables that docs/troubleshooting.md names, and no others.
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


# Messages


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_messages_contain_neither_secrets_nor_the_home_folder(monkeypatch, text, message):
    monkeypatch.setenv("HOME", "/home/zoë")
    assert shown(text) == str(UserError(text)) == message
    assert shown(message) == message


@pytest.mark.parametrize("home", ["/", ""])
def test_a_home_folder_that_is_no_folder_is_not_replaced(monkeypatch, home):
    monkeypatch.setenv("HOME", home)
    assert shown("/tmp/x") == "/tmp/x"


# Dependencies


def requirements(name: str) -> list[Requirement]:
    lines = [line.partition(" #")[0].strip() for line in (PROJECT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("-", "#"))]


def test_all_dependencies_are_pinned_to_the_installed_versions():
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
    assert not [each for each in pinned + direct if each.url], "from the package index, not from a URL"
