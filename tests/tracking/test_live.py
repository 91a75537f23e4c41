"""The live run of a training: what it logs, and that no server stops or slows the training."""

import socket
import statistics
import threading
import time
from contextlib import ExitStack

import pytest
from helpers.processes import closed_port, kill_group, mlflow_server, wait_for
from helpers.tracking import MEASURED, FaultyServer, history, rows, steps_of_all, train

from cvae.compute.devices import open_device
from cvae.compute.seeding import generator
from cvae.model import CVAE
from cvae.tracking import live
from cvae.tracking.live import LiveRun
from cvae.tracking.record import record
from cvae.training.loop import Training

EPOCHS = 30  # several seconds on one core


def test_a_long_training_has_system_metrics(workspace, params, monkeypatch):
    monkeypatch.setattr(live, "SAMPLING", 0.1)
    with LiveRun(params, MEASURED) as run:
        run.log(rows()[0])
        wait_for(lambda: any("system/cpu_utilization_percentage" in run.data.metrics for run in workspace.runs()))
        run.complete({})
    (run,) = workspace.runs()
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100


def test_losses_are_logged_if_the_system_cannot_be_measured(workspace, params, monkeypatch, capfd):
    from mlflow.system_metrics import system_metrics_monitor

    monkeypatch.delattr(system_metrics_monitor.SystemMetricsMonitor, "start")
    train(params)
    (run,) = workspace.runs()
    assert run.info.status == "FINISHED"
    assert len(history(workspace.client, run, "train/loss")) == len(rows())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("too\nbad"), "FAILED"), (KeyboardInterrupt(), "KILLED")], ids=["error", "Ctrl-C"]
)
def test_a_failed_or_interrupted_training_ends_its_run_with_the_reason(workspace, params, error, status):
    with pytest.raises(type(error)):
        fail_training(params, error)
    (run,) = workspace.runs()
    assert run.info.status == status
    assert run.data.tags.get("error") == ("too" if status == "FAILED" else None)
    assert len(history(workspace.client, run, "train/loss")) == 1


def fail_training(params: dict, error: BaseException) -> None:
    with LiveRun(params, MEASURED) as run:
        run.log(rows()[0])
        raise error


def test_the_run_of_a_failed_training_does_not_become_the_record(workspace, params):
    with pytest.raises(ValueError, match="bad"):
        fail_training(params, ValueError("bad"))
    record(params)
    assert sorted(run.info.status for run in workspace.runs()) == ["FAILED", "FINISHED"]


def test_training_waits_for_a_silent_server_no_longer_than_its_patience(workspace, params, monkeypatch, capfd):
    monkeypatch.setattr(live, "SERVER_PATIENCE", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        train(params)
        assert time.monotonic() - started < 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "not done within 0.5 s" in line


def test_a_server_lost_during_training_is_reported_and_not_waited_for(workspace, params, monkeypatch, capfd):
    monkeypatch.setattr(live, "SERVER_PATIENCE", 2.0)
    uri = f"http://127.0.0.1:{(port := closed_port())}"
    artifacts = ("--default-artifact-root", str(workspace.root / "mlartifacts"))
    with mlflow_server(workspace.root, port, *artifacts) as process:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with LiveRun(params, MEASURED) as run:
            run.log(rows()[0])
            wait_for(lambda: steps_of_all(workspace) == 1)
            kill_group(process)
            capfd.readouterr()
            started = time.monotonic()
            run.log(rows()[1])
            run.complete({})
        assert time.monotonic() - started < 4
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"train: MLflow at {uri}: ")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # open its database without it
    wait_for(lambda: "mlflow" not in [thread.name for thread in threading.enumerate()])
    record(params)
    assert sorted(run.info.status for run in workspace.runs()) == ["FINISHED", "KILLED"]


def test_logging_a_row_never_waits_for_the_server(workspace, params, monkeypatch):
    monkeypatch.setattr(live, "SERVER_PATIENCE", 0.1)
    with FaultyServer(None) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        with LiveRun(params, MEASURED) as run:
            server.asked.wait(30)
            started = time.perf_counter()
            for _ in range(1000):
                run.log({"epoch": 1, "train_loss": 1.0})
            assert time.perf_counter() - started < 0.5


@pytest.mark.long
@pytest.mark.parametrize("status", [None, 500], ids=["no answer", "500"])
def test_a_faulty_server_slows_training_by_less_than_a_twentieth(workspace, params, digits, monkeypatch, status):
    monkeypatch.setattr(live, "SERVER_PATIENCE", 0.1)
    open_device("cpu", 1, "float32")
    ratios = []
    for turn in range(9):
        seconds = {}
        for tracked in (turn % 2 == 0, turn % 2 == 1):
            with FaultyServer(status) as server, ExitStack() as stack:
                monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
                log = stack.enter_context(LiveRun(params, MEASURED)).log if tracked else lambda row: None
                seconds[tracked] = seconds_of_training(params, digits, log)
            wait_for(lambda: "mlflow" not in [thread.name for thread in threading.enumerate()])
        ratios.append(seconds[True] / seconds[False])
        print(f"with {seconds[True]:.2f} s, without {seconds[False]:.2f} s: {ratios[-1]:.3f}")
    assert statistics.median(ratios) < 1.05, ratios


def seconds_of_training(params: dict, digits, log) -> float:
    """Return how long a short training takes if each of its epochs is passed to `log`."""
    settings = ("latent_dims", "hidden_dims", "likelihood", "prior_std", "activation")
    model = CVAE(*(params[name] for name in settings))
    model.initialise(generator(0, "weights"))
    training = Training(model, *digits, epochs=EPOCHS, batch_size=128, learning_rate=1e-3, beta=1.0, seed=0)
    started = time.perf_counter()
    for row in training:
        log(row)
    return time.perf_counter() - started


def test_the_rows_of_several_epochs_are_written_together(workspace, params, monkeypatch):
    monkeypatch.setattr(live, "BATCHING", 0.3)
    written = []
    monkeypatch.setattr(live, "log_rows", lambda _, __, rows: written.append([row["epoch"] for row in rows]))
    with LiveRun(params, MEASURED) as run:
        for epoch in (1, 2, 3):
            run.log({"epoch": epoch})
        wait_for(lambda: written)
        time.sleep(0.1)
        for epoch in (4, 5):
            run.log({"epoch": epoch})
    assert [row for batch in written for row in batch] == [1, 2, 3, 4, 5]
    assert len(written) == 2, "the end does not wait"
