"""A Slurm cluster of one machine: this one."""

import getpass
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.processes import closed_port, environment, kill_group, wait_for

SBIN = ":/usr/sbin:/sbin"  # where Debian has its daemons, not on every user's PATH
DAEMONS = {name: shutil.which(name, path=os.environ["PATH"] + SBIN) for name in ("munged", "slurmctld", "slurmd")}
# A requeued job waits until its credentials expire, two minutes by default.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE
"""


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Run Slurm's daemons, and yield the variables with which its commands find them."""
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are too deep for a socket
        folder = Path(place)
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        values = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "folder": folder}
        ports = {"controller": closed_port(), "node": closed_port()}
        configuration = folder / "slurm.conf"
        configuration.write_text(CONFIGURATION.format(**values, **ports))
        variables = {"SLURM_CONF": str(configuration)}
        munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("key-file", "socket", "pid-file")]
        munge += [f"--seed-file={folder}/seed", "--foreground", "--force"]
        log = (folder / "daemons.log").open("w")
        processes = []
        try:
            for name, *options in (["munged", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
                command = [DAEMONS[name], *options]
                settings = {"env": environment(**variables), "stdout": log, "stderr": log, "start_new_session": True}
                processes.append(subprocess.Popen(command, **settings))
                if name == "munged":
                    wait_for((folder / "munge.socket").exists)
            wait_for(lambda: "idle" in _answer(["sinfo", "--noheader", "--format=%T"], variables))
            yield variables
        except BaseException:
            print((folder / "daemons.log").read_text()[-5000:])
            raise
        finally:
            subprocess.run(["scancel", "--user", getpass.getuser(), "--signal=KILL"], env=environment(**variables))
            for process in reversed(processes):
                kill_group(process)
            log.close()


def submit(repository, *arguments: str, **variables: str) -> str:
    """Submit a job in `repository` and return its number."""
    return re.search(r"\d+", repository.run("sbatch", "--parsable", *arguments, **variables).stdout)[0]


def wait_for_jobs(variables: dict[str, str], seconds: float = 300) -> None:
    wait_for(lambda: not _answer(["squeue", "--noheader"], variables).strip(), seconds)


def _answer(command: list[str], variables: dict[str, str]) -> str:
    return subprocess.run(command, env=environment(**variables), capture_output=True, text=True).stdout
