"""The process of one trial: start it, find it again, interrupt it, and read its outcome."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cvae.commands.tune.copies import copy_of
from cvae.commands.tune.space import Value, spell
from cvae.pipeline.git import files_at
from cvae.pipeline.parameters import load_yaml
from cvae.pipeline.repository import has_ended
from cvae.support.errors import UserError, one_line
from cvae.tracking.runs import STUDY_VARIABLE, TRIAL_VARIABLE

if TYPE_CHECKING:
    import psutil

FIGURES = "metrics/validation.json"
PATIENCE = 60  # seconds that an interrupted trial has to end
# $1 is Python. DVC's cache gives back images of your own that DVC tracks; everything else the stages bring back.
COMMAND = """
python=$1; shift
[ -z "$(git ls-files '*.dvc')" ] || "$python" -m dvc checkout --quiet --allow-missing
exec "$python" -m dvc exp run "$@"
"""


class Trial:
    """A running trial. Its process leads a process group, and may have been started by an earlier `cvae tune`."""

    def __init__(self, number: int, name: str, values: Mapping[str, Value], log: Path, processes: Sequence):
        self.number = number
        self.name = name
        self.values = dict(values)
        self.log = log
        self.pruned_after: int | None = None  # the epoch
        self._processes: list[subprocess.Popen | psutil.Process] = list(processes)

    def has_ended(self) -> bool:
        return all(
            process.poll() is not None if isinstance(process, subprocess.Popen) else has_ended(process)
            for process in self._processes
        )

    def interrupt(self, sent: signal.Signals = signal.SIGINT) -> None:
        """Send the trial's processes a signal, as Ctrl-C in a terminal does."""
        groups = set()
        for process in self._processes:
            with suppress(ProcessLookupError):
                groups.add(os.getpgid(process.pid))
        for group in groups:  # once each: DVC takes a second Ctrl-C for impatience
            with suppress(ProcessLookupError):
                os.killpg(group, sent)

    def status(self) -> int | None:
        """Return the exit status of a trial that has ended, or None if another process started it."""
        own = self._processes[0]
        return own.returncode if isinstance(own, subprocess.Popen) else None


def start(study: str, number: int, name: str, values: Mapping[str, Value], folder: Path, log: Path) -> Trial:
    """Run an experiment in `folder`, a copy of the repository, with `values`. Its output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    settings = [each for key, value in values.items() for each in ("--set-param", f"{key}={spell(value)}")]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    variables = os.environ | {"PATH": path, STUDY_VARIABLE: study, TRIAL_VARIABLE: str(number)}
    with log.open("wb") as output, _interruptible():
        process = subprocess.Popen(
            ["sh", "-c", COMMAND, "sh", sys.executable, "--name", name, *settings],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Trial(number, name, values, log, [process])


def adopt(number: int, name: str, values: Mapping[str, Value], log: Path) -> Trial | None:
    """Return the trial `name` if processes of it still run that an earlier `cvae tune` started, else None."""
    import psutil

    folder = copy_of(name).resolve()
    found = []
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(folder):
            with suppress(psutil.Error):
                if TRIAL_VARIABLE in process.environ():  # else it is a shell in which somebody looks around
                    found.append(process)
    return Trial(number, name, values, log, found) if found else None


def end(trials: Sequence[Trial]) -> None:
    """Interrupt `trials` and wait until they have ended. Kill those that do not end, or all on another Ctrl-C."""
    for trial in trials:
        trial.interrupt()
    try:
        until = time.monotonic() + PATIENCE
        while not all(trial.has_ended() for trial in trials) and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        for trial in trials:
            if not trial.has_ended():
                trial.interrupt(signal.SIGKILL)


def figure(name: str, commit: str, metric: str, params: Mapping[str, Value]) -> float:
    """Return `metric` of the experiment `name`, which is at `commit`.

    Raises:
        UserError: the experiment has no such figure, or was not made with `params`.
    """
    files = files_at([commit], [FIGURES, "params.yaml"])
    made_with = load_yaml(files[commit, "params.yaml"].decode())
    if others := [key for key in params if made_with.get(key) != params[key]]:
        raise UserError(f"{name} was made with another {others[0]} than this trial's")
    try:
        value = json.loads(files[commit, FIGURES])[metric]
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError
        return value
    except (LookupError, ValueError, TypeError):
        raise UserError(f"{FIGURES} of {name} has no {metric}") from None


def reason_for_failure(trial: Trial) -> str:
    """Return one line that says why a trial ended without a result: the stage's own message, if there is one."""
    text = trial.log.read_text(errors="replace") if trial.log.exists() else ""
    more = f"{trial.log} has its output"
    if stage := re.search(r"^ERROR: failed to reproduce '(.+?)'", text, re.MULTILINE):
        messages = re.findall(rf"^{re.escape(stage[1])}: .+", text, re.MULTILINE)
        return one_line(messages[-1]) if messages else f"{stage[1]} failed; {more}"
    if errors := re.findall(r"^ERROR: (.+)", text, re.MULTILINE):
        return one_line(errors[-1])
    status = trial.status()
    how = f" by signal {-status}" if status is not None and status < 0 else ""
    return f"ended{how} without a result; {more}"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT reach processes started now, even if this one ignores it, as behind nohup or a shell's `&`."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
