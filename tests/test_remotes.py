"""A team and its remote: what the guide "Share with a team" promises, by its own lines, for each kind of remote.

A folder, an OpenSSH server and an S3 server on loopback, each started here; two clones of a scratch repository in
which the real pipeline has run. The tests of one remote go on from one another: they push, then pull.
"""

import asyncio
import getpass
import hashlib
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
from conftest import ROOT, Checkout, scripts_run

STAGES = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
MODEL = "models/model.keras"
HEAD = "models/head/head.zip"
EXPERIMENT = "another-penalty"  # of the head, which is quickly trained
GUIDE = (ROOT / "docs/guides/share.md").read_text(encoding="utf-8")
LINES = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)  # block by block
URL = "git@github.com:example/thaw.git"


def lines(containing, replaced):
    """Return the guide's block that contains a text; what stands for the reader's own is replaced."""
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
        place = Path(tempfile.mkdtemp(dir=home))
        self.path, self.aside = place / "team", place / "unmounted"
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
        for process in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            Process.kill(self)


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
    """moto's S3 server, which keeps all in memory: what it had is brought back."""

    def __init__(self, home):
        self.log, self.as_user, self.objects = home / "moto.log", {}, {}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.set_up = lines("s3://", {"https://s3.example.org": self.url, "example-team": "team"})

    def command(self):
        return [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.port)]

    def start(self):
        super().start()
        import boto3

        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")
        self.client.create_bucket(Bucket="team")
        for key, body in self.objects.items():
            self.client.put_object(Bucket="team", Key=key, Body=body)

    def kill(self):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="team")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        self.objects = {key: self.client.get_object(Bucket="team", Key=key)["Body"].read() for key in keys}
        super().kill()


# --- A team of two ---


class Team:
    """Two clones of one Git repository, of which the first has run the pipeline."""

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
def make_team(home, run_dir, tmp_path_factory):
    """Make a team with a remote that was set up by the guide's lines."""
    teams = []

    def make_team(kind):
        remote = kind(home)
        teams.append(remote)
        remote.start()
        team = Team(tmp_path_factory.mktemp("team"), run_dir, remote)
        result = shell(team.first.path, remote.set_up + lines("verify true", {"make share": "true"}))
        assert result.returncode == 0, result.stderr
        return team

    yield make_team
    for remote in teams:
        remote.close()


@pytest.fixture(scope="module", params=[Folder, Ssh, S3], ids=["folder", "ssh", "s3"])
def team(request, make_team):
    return make_team(request.param)


def test_a_remote_lost_in_mid_push_is_an_error_and_the_next_push_completes(team):
    assert_error(team.break_off(team.first, "push", mode="r"))
    pushed = team.first.dvc("push")
    assert pushed.returncode == 0, pushed.stderr
    assert re.search(r"\d+ files? pushed", pushed.stdout)


def test_a_remote_lost_in_mid_pull_is_an_error_and_the_next_pull_completes_after_which_nothing_runs(team):
    team.first.run("git", "clone", "--quiet", str(team.origin), str(team.second.path), check=True)
    assert_error(team.break_off(team.second, "pull", mode="w"))
    assert not (team.second.path / MODEL).exists()
    result = at_once(team.second, "pull", "repro", "status --cloud")
    assert result.returncode == 0, result.stderr
    assert scripts_run(result.stdout) == []
    assert "in sync" in result.stdout
    assert team.second.lock == team.first.lock
    assert (team.second.path / MODEL).read_bytes() == (team.first.path / MODEL).read_bytes()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("/dev/null/store", "'/dev/null/"),
        ("ssh://127.0.0.1:1/store", "Connect call failed"),
        ("s3://team/store\n    endpointurl = http://127.0.0.1:1", "http://127.0.0.1:1"),
    ],
    ids=["folder", "ssh", "s3"],
)
def test_a_remote_that_does_not_exist_is_an_error(finished, home, url, message):
    config = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n"
    (finished.path / ".dvc" / "config").write_text(config)
    result = finished.dvc("push")
    assert_error(result)
    assert message in result.stderr


# --- What is shared ---


@pytest.fixture(scope="module")
def sharing(make_team):
    """A team with a folder, which the first of the two has pushed all to: its run, and an experiment."""
    team = make_team(Folder)
    run = team.first.dvc("exp", "run", "--name", EXPERIMENT, "--set-param", "head.strengths=[0.003]", "train_head")
    assert run.returncode == 0, run.stderr
    team.experiment = (team.first.path / HEAD).read_bytes()
    team.first.run("git", "checkout", "--quiet", ".", check=True)
    assert team.first.dvc("checkout", "--quiet").returncode == 0
    assert (team.first.path / HEAD).read_bytes() != team.experiment
    team.shared = shell(team.first.path, f"make RUN=python --file {ROOT}/Makefile --old-file setup share")
    return team


def test_make_share_pushes_the_data_the_run_cache_and_the_experiments(sharing):
    output = sharing.shared.stdout + sharing.shared.stderr
    assert sharing.shared.returncode == 0, output
    assert re.search(r"^\d+ files pushed$", output, re.MULTILINE)
    assert f"Pushed experiment {EXPERIMENT}" in output
    assert "older" not in output
    assert "committed" not in output


def test_whoever_is_of_the_folders_group_may_push(sharing):
    folders = [path for path in (sharing.remote.path / "thaw").rglob("*") if path.is_dir()]
    assert {"md5", "runs"} <= {path.name for path in folders}
    closed = [path for path in folders if path.stat().st_mode & 0o2070 != 0o2070]
    assert not closed


def test_the_readmes_lines_bring_a_clone_and_an_experiment_with_its_model(sharing):
    own = {URL: sharing.origin, "make setup && source .venv/bin/activate": "true", "EXPERIMENT": EXPERIMENT}
    result = shell(sharing.folder, lines("git clone", own))
    assert result.returncode == 0, result.stderr
    assert scripts_run(result.stdout) == []
    assert (sharing.second.path / HEAD).read_bytes() == sharing.experiment


def test_what_another_machine_has_tried_is_not_computed_again(sharing):
    clone = Checkout(sharing.folder / "third")
    sharing.first.run("git", "clone", "--quiet", str(sharing.origin), str(clone.path), check=True)
    clone.set(head__strengths=[0.003])
    result = at_once(clone, "fetch --run-cache train_head", "repro --pull train_head")
    assert result.returncode == 0, result.stderr
    assert scripts_run(result.stdout) == []
    assert (clone.path / HEAD).read_bytes() == sharing.experiment


def test_the_readmes_lines_bring_the_model_alone_which_answers(sharing, tmp_path):
    shutil.copyfile(sharing.first.path / "photographs" / "stripes" / "stripes01.jpg", tmp_path / "photograph.jpg")
    result = shell(tmp_path, lines("dvc get", {URL: sharing.origin, "path/to/thaw": ROOT}))
    assert result.returncode == 0, result.stderr
    assert re.search(r"^(stripes|blobs) +\d+\.\d% +photograph\.jpg$", result.stdout, re.MULTILINE)
    assert "not calibrated" not in result.stderr


def test_what_is_damaged_on_the_remote_is_not_taken_until_it_is_mended(sharing):
    clone = Checkout(sharing.folder / "fourth")
    sharing.first.run("git", "clone", "--quiet", str(sharing.origin), str(clone.path), check=True)
    photograph = min((sharing.first.path / "data" / "raw" / "images").iterdir())
    for path in (sharing.first.path / MODEL, photograph):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        stored = sharing.remote.path / "thaw" / "files" / "md5" / digest[:2] / digest[2:]
        mode = stored.stat().st_mode
        stored.chmod(0o600)
        with stored.open("r+b") as file:
            file.seek(500)
            file.write(b"damaged")
        stored.chmod(mode)  # a disk that fails leaves it as it was
    pulled = clone.dvc("pull")
    assert_error(pulled)
    assert all(path in pulled.stderr for path in (MODEL, "data/raw"))
    assert not (clone.path / MODEL).exists()
    mended = sharing.first.run(sys.executable, str(ROOT / "src" / "mend.py"))
    assert mended.returncode == 0, mended.stderr
    assert "2 lay damaged" in mended.stdout
    assert "2 are replaced" in mended.stdout
    pulled = clone.dvc("pull", "--quiet")
    assert pulled.returncode == 0, pulled.stderr
    assert (clone.path / MODEL).read_bytes() == (sharing.first.path / MODEL).read_bytes()


def test_what_is_not_on_the_remote_is_mended_a_folders_list_too(sharing):
    objects = sharing.remote.path / "thaw" / "files" / "md5"
    lock = yaml.safe_load((sharing.first.path / "dvc.lock").read_text())
    outputs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    gone = [objects / outputs[path][:2] / outputs[path][2:] for path in (MODEL, "data/raw/images")]
    for path in gone:
        path.unlink()
    mended = sharing.first.run(sys.executable, str(ROOT / "src" / "mend.py"))
    assert mended.returncode == 0, mended.stderr
    assert "2 were missing; 2 are replaced" in mended.stdout
    assert all(path.exists() for path in gone)


@pytest.mark.parametrize("url", ["/dev/null/store", "ssh://127.0.0.1:1/store", "s3://store/thaw"])
@pytest.mark.parametrize("script", ["mend.py", "share.py"])
def test_a_remote_that_cannot_be_reached_is_one_line(sharing, tmp_path, script, url):
    checkout = Checkout(tmp_path / "clone")
    sharing.first.run("git", "clone", "--quiet", str(sharing.origin), str(checkout.path), check=True)
    (checkout.path / ".dvc" / "config.local").write_text("")
    shutil.copytree(sharing.first.path / ".dvc" / "cache" / "runs", checkout.path / ".dvc" / "cache" / "runs")
    checkout.dvc("remote", "add", "--local", "--default", "--force", "away", url)
    if url.startswith("s3"):
        checkout.dvc("remote", "modify", "--local", "away", "endpointurl", "http://127.0.0.1:1")
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_MAX_ATTEMPTS": "1"}
    result = checkout.run(sys.executable, str(ROOT / "src" / script), env=os.environ | keys)
    assert result.returncode == 1
    assert result.stderr.count("thaw: ") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_full_disk_is_an_error_and_the_next_try_completes(sharing, tmp_path, command):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shell(tmp_path, f"mount -t tmpfs -o size=20m tmpfs {disk}")
    if mount.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mount.stderr.strip()}")
    try:
        checkout = sharing.first
        if command == "pull":
            checkout = Checkout(tmp_path / "clone")
            sharing.first.run("git", "clone", "--quiet", str(sharing.origin), str(checkout.path), check=True)
        place = ["config", "--local", "remote.store.url" if command == "push" else "cache.dir", str(disk)]
        assert checkout.dvc(*place).returncode == 0
        result = checkout.dvc(command)
        assert_error(result)
        assert "No space left on device" in result.stderr
        shell(tmp_path, f"mount -o remount,size=256m {disk}")
        result = checkout.dvc(command)
        assert result.returncode == 0, result.stderr
        (checkout.path / ".dvc" / "config.local").unlink()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- A clone without its data ---


FIRST = ("inputs", "fingerprints", "download", "backbone")  # read nothing that another stage wrote


@pytest.mark.parametrize("script", [*(stage for stage in STAGES if stage not in FIRST), "predict", "explore"])
def test_what_a_clone_lacks_is_one_line_that_names_the_command(tmp_path, script):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    command = [sys.executable, ROOT / "src" / f"{script}.py", *["photograph.jpg"] * (script == "predict")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("thaw: ")
    assert "is missing: run `dvc repro`, or `dvc pull`" in line


def at_once(checkout, *commands):
    """Run commands of DVC one after the other in one process, until one fails: most of the time is its start."""
    program = "import sys; from dvc.cli import main; sys.exit(any(main(c.split()) for c in sys.argv[1:]))"
    return checkout.run(sys.executable, "-c", program, *commands)


def assert_error(result):
    """A command of DVC failed with an error for a person, and without a traceback."""
    assert result.returncode != 0
    assert re.search(r"^ERROR: .*\S", result.stderr, re.MULTILINE), result.stderr
    assert "Traceback" not in result.stdout + result.stderr
