"""A team and its remote: what the README's section "Share it" promises, by its own lines, for each kind of remote.

A folder, an OpenSSH server and an S3 server on loopback, each started here; two clones of a scratch repository in
which the real pipeline has run. The tests of one kind go on from one another: push, pull, an experiment.
"""

import asyncio
import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import ROOT, Checkout

STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
MODEL = "models/model.keras"
EXPERIMENT = "one-epoch"
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Share it\n")[2].partition("\n## ")[0]
LINES = re.findall(r"^```sh\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)  # of the README, block by block
URL = "git@github.com:example/thaw.git"


def lines(containing, replaced):
    """The README's block that contains some words, as printed but for what stands for the reader's own."""
    (block,) = [block for block in LINES if containing in block]
    for old, new in replaced.items():
        assert old in block
        block = block.replace(old, str(new))
    return block


def shell(folder, block):
    return subprocess.run(["sh", "-e", "-c", block], cwd=folder, capture_output=True, text=True, timeout=300)


# --- The remotes, each of which can be lost and comes back ---


class Folder:
    """A shared folder that is unmounted: where it was, nobody can make another."""

    def __init__(self, home):
        self.path, self.aside = home / "team", home / "unmounted"
        self.aside.mkdir()
        self.set_up = lines("/mnt/team/thaw", {"/mnt/team/thaw": self.path / "thaw"})

    def start(self):
        self.path.unlink(missing_ok=True)
        self.aside.rename(self.path)

    def kill(self):
        self.path.rename(self.aside)
        self.path.touch()

    def close(self):
        pass


class Process:
    """A server on loopback, a process with children that can be killed."""

    def start(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = getattr(self, "port", free.getsockname()[1])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, **self.as_user)
        for _ in range(600):
            if self.process.poll() is not None:
                pytest.skip(f"{self.process.args[0]} does not run here: {self.log.read_text().strip()[-200:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail(f"{self.process.args[0]} does not answer: {self.log.read_text()}")

    def kill(self):
        """Kill the server and the processes that serve its connections, all at once."""
        everyone = [*psutil.Process(self.process.pid).children(recursive=True), self.process]
        for one in everyone:
            one.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.kill()


class Ssh(Process):
    """OpenSSH's own server, run by an ordinary user, who logs in with a key: this one, or where that is root, nobody.

    With the configuration, keys and data all in a folder of its own; `~` is a scratch home.
    """

    CONFIG = """
        ListenAddress 127.0.0.1
        HostKey {folder}/host
        AuthorizedKeysFile {folder}/authorized_keys
        PidFile none
        StrictModes no  # or the folder above, which all can write to, would not do
        PasswordAuthentication no
        UsePAM yes  # or an account without a password would count as locked
        Subsystem sftp internal-sftp
        ForceCommand internal-sftp
    """
    CLIENT = "Host server.example.org\n HostName 127.0.0.1\n Port {port}\n IdentityFile {key}\n"

    def __init__(self, home):
        self.server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        if not self.server or not shutil.which("ssh-keygen"):
            pytest.skip("OpenSSH's server is not installed")
        self.user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        self.as_user = {"user": self.user, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        self.folder = Path(tempfile.mkdtemp(prefix="thaw-ssh-"))  # pytest's own folders are closed to other users
        self.log, self.key, self.home = home / "sshd.log", home / "key", home
        for key in (self.folder / "host", self.key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        (self.folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        (self.folder / "sshd_config").write_text(textwrap.dedent(self.CONFIG).format(folder=self.folder))
        if os.geteuid() == 0:
            for path in (self.folder, self.folder / "host"):
                shutil.chown(path, self.user)
            for path in (self.folder / "authorized_keys", self.folder / "sshd_config"):
                path.chmod(0o644)
        there = {"thaw@server.example.org/srv/thaw": f"{self.user}@server.example.org{self.folder}/thaw"}
        self.set_up = lines("ssh://", there)

    def command(self):
        return [self.server, "-D", "-e", "-f", str(self.folder / "sshd_config"), "-p", str(self.port)]

    def start(self):
        super().start()
        (self.home / ".ssh").mkdir(exist_ok=True)
        (self.home / ".ssh" / "config").write_text(self.CLIENT.format(port=self.port, key=self.key))
        asyncio.run(self._log_in())

    async def _log_in(self):
        import asyncssh

        try:
            options = {"username": self.user, "client_keys": [str(self.key)], "known_hosts": None, "config": None}
            async with asyncssh.connect("127.0.0.1", self.port, **options):
                pass
        except asyncssh.Error as error:
            pytest.skip(f"sshd lets {self.user} not in here ({error}): {self.log.read_text()[-300:]}")

    def close(self):
        super().close()
        shutil.rmtree(self.folder)


class S3(Process):
    """moto's S3 server, which keeps all in memory: one that was killed has lost it."""

    def __init__(self, home):
        self.log, self.as_user = home / "moto.log", {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.set_up = lines("s3://", {"https://s3.example.org": self.url, "example-team": "team"})

    def command(self):
        return [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)]

    def start(self):
        super().start()
        import boto3

        boto3.client("s3", endpoint_url=self.url, region_name="us-east-1").create_bucket(Bucket="team")


# --- A team of two ---


class Team:
    """Two clones of one Git repository; the first has run the pipeline and an experiment."""

    def __init__(self, folder: Path, first: Path, remote):
        self.folder, self.remote = folder, remote
        self.first, self.second = Checkout(folder / "first"), Checkout(folder / "thaw")
        self.origin = folder / "origin" / "thaw.git"
        shutil.copytree(first, self.first.path, symlinks=True)
        self.first.run("git", "clone", "--quiet", "--bare", ".", str(self.origin), check=True)
        self.first.run("git", "remote", "add", "origin", str(self.origin), check=True)
        self.first.run("git", "push", "--quiet", "--set-upstream", "origin", "HEAD", check=True)

    def break_off(self, checkout: Checkout, command: str, mode: str) -> subprocess.CompletedProcess:
        """Run a transfer and lose the remote in the middle of it: when 20 files were opened and the next one is."""
        flags = Path(tempfile.mkdtemp(dir=self.folder))
        (flags / "sitecustomize.py").write_text(textwrap.dedent(PAUSE))
        environment = os.environ | {"PYTHONPATH": str(flags), "PAUSE_AT": f"{mode} {flags}"}
        transfer = subprocess.Popen(
            [sys.executable, "-m", "dvc", command],
            cwd=checkout.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while not (flags / "paused").exists():
            assert transfer.poll() is None, transfer.communicate()
            time.sleep(0.01)
        self.remote.kill()
        (flags / "go-on").touch()
        output, errors = transfer.communicate(timeout=120)
        self.remote.start()
        return subprocess.CompletedProcess(command, transfer.returncode, output, errors)


PAUSE = """
    import itertools, os, sys, time

    mode, flags = os.environ["PAUSE_AT"].split(" ", 1)
    count = itertools.count()

    def pause(event, arguments):
        if event != "open" or arguments[1] != mode or not isinstance(arguments[0], (str, bytes)):
            return
        path = os.fsdecode(arguments[0])
        if "/.dvc/cache/files/md5/" in path and not path.endswith(".dir") and next(count) >= 20:
            os.close(os.open(f"{flags}/paused", os.O_CREAT))
            while not os.path.exists(f"{flags}/go-on"):
                time.sleep(0.01)

    sys.addaudithook(pause)
"""


@pytest.fixture(scope="module")
def home(dvc_of_its_own, tmp_path_factory):
    """A home of its own for SSH and S3: nothing of the person's is read or changed."""
    path = tmp_path_factory.mktemp("team-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(path))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "MAX_ATTEMPTS": "1"}.items():
            patch.setenv(f"AWS_{name}", value)
        yield path


@pytest.fixture(scope="module")
def experimented(run_dir, home, tmp_path_factory):
    """The finished repository with an experiment whose model is another one."""
    checkout = Checkout(tmp_path_factory.mktemp("experimented") / "first")
    shutil.copytree(run_dir, checkout.path, symlinks=True)
    run = checkout.dvc("exp", "run", "--name", EXPERIMENT, "--set-param", "fine_tune.epochs=1", "fine_tune")
    assert run.returncode == 0, run.stderr
    other = (checkout.path / MODEL).read_bytes()
    assert other != (run_dir / MODEL).read_bytes()
    checkout.run("git", "checkout", "--quiet", ".", check=True)
    assert checkout.dvc("checkout", "--quiet").returncode == 0
    yield checkout.path, other
    shutil.rmtree(checkout.path)


@pytest.fixture(scope="module", params=[Folder, Ssh, S3], ids=["folder", "ssh", "s3"])
def team(request, experimented, home, tmp_path_factory):
    remote = request.param(home)
    folder = tmp_path_factory.mktemp("team")
    try:
        remote.start()
        team = Team(folder, experimented[0], remote)
        result = shell(team.first.path, remote.set_up)
        assert result.returncode == 0, result.stderr
        yield team
    finally:
        remote.close()
        shutil.rmtree(folder)


def test_a_remote_lost_in_mid_push_is_an_error_and_the_next_push_completes(team):
    broken = team.break_off(team.first, "push", mode="r")
    assert_clear(broken)
    make = f"make --file {ROOT}/Makefile --old-file setup share"
    shared = shell(team.first.path, lines("make share", {"make share": make}))
    assert shared.returncode == 0, shared.stderr
    assert f"Pushed experiment {EXPERIMENT}" in shared.stdout + shared.stderr
    assert not team.first.run("git", "status", "--porcelain").stdout


def test_a_remote_lost_in_mid_pull_is_an_error_and_the_next_pull_completes(team):
    team.first.run("git", "clone", "--quiet", str(team.origin), str(team.second.path), check=True)
    broken = team.break_off(team.second, "pull", mode="w")
    assert_clear(broken)
    if isinstance(team.remote, S3):  # it came back empty
        assert team.first.dvc("push").returncode == 0
        assert team.first.dvc("exp", "push", "--all-commits", "origin").returncode == 0
    pulled = team.second.dvc("pull", "--quiet")
    assert pulled.returncode == 0, pulled.stderr


def test_the_second_machine_has_the_same_model_and_runs_nothing(team):
    assert (team.second.path / MODEL).read_bytes() == (team.first.path / MODEL).read_bytes()
    assert team.second.repro() == []
    assert team.second.lock == team.first.lock
    status = team.second.dvc("status", "--cloud")
    assert "in sync" in status.stdout, status.stdout + status.stderr


def test_the_readmes_lines_bring_an_experiment_with_its_model(team, experimented):
    shutil.rmtree(team.second.path)
    own = {URL: team.origin, "make setup && source .venv/bin/activate": "true", "EXPERIMENT": EXPERIMENT}
    result = shell(team.folder, lines("git clone", own))
    assert result.returncode == 0, result.stderr
    assert "> python" not in result.stdout  # nothing ran
    assert (team.second.path / MODEL).read_bytes() == experimented[1]


def assert_clear(result):
    """A transfer failed with an error for a person, and without a traceback."""
    assert result.returncode != 0
    assert re.search(r"^ERROR: .*\S", result.stderr, re.MULTILINE), result.stderr
    assert "Traceback" not in result.stdout + result.stderr
