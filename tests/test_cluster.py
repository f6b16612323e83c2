"""Other machines compute the same bytes: two nodes of Ray, of one core each, both on this machine.

What goes wrong in a node is done to it by a module that Python imports at the start of each of its workers. It looks
for files in a folder: one that is called `pause` holds every worker that opens a photograph.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import drawn_views
import numpy as np
import pytest
from drawn_views import IMAGE

from thaw.cluster import blocks, machines, shared_store
from thaw.cluster.blocks import Blocks
from thaw.cluster.machines import Machines
from thaw.cluster.shared_store import Folder
from thaw.core.errors import ThawError
from thaw.core.kept_rows import KEY_BYTES
from thaw.engines import openvino_setup
from thaw.features import extraction
from thaw.features.extraction import PlannedViews
from thaw.sources import shards

IN_WORKERS = """
    import errno, importlib.metadata, os, pathlib, sys, time

    flags = pathlib.Path(os.environ["FLAGS"])

    def watch(event, arguments):
        if event != "open" or not isinstance(arguments[0], (str, os.PathLike)):
            return
        path = os.fspath(arguments[0])
        if path.endswith(".png") and os.path.exists(path):
            if (flags / "blind").exists():
                raise FileNotFoundError(errno.ENOENT, "No such file or directory")
            if (flags / "die").exists() and (flags / "die").read_text() in path:
                os._exit(9)
            pauses = flags / "pause", flags / f"pause-{os.environ['NODE']}"
            if "p0" not in path and any(pause.exists() for pause in pauses):  # every machine opens p0 before the work
                (flags / f"paused-{os.environ['NODE']}-{os.getpid()}").touch()
                while any(pause.exists() for pause in pauses):
                    time.sleep(0.02)
        if path.endswith(".partial") and (flags / f"full-{os.environ['NODE']}").exists():
            raise OSError(errno.ENOSPC, "No space left on device")

    sys.addaudithook(watch)
    if "OTHER_VERSION" in os.environ:
        version = importlib.metadata.version
        importlib.metadata.version = lambda name: "1.0" if name == "openvino" else version(name)
    if "LACKS" in os.environ:
        sys.modules[os.environ["LACKS"]] = None
"""
NOBODY = "127.0.0.1:1"
SRC = str(Path(machines.__file__).parents[2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven drawn images, and a small network."""
    folder = tmp_path_factory.mktemp("cluster")
    drawn_views.draw(folder)
    ov, opset = openvino_setup.ov, openvino_setup.ov.opset13
    image = opset.parameter([-1, -1, -1, 3], np.float32, name="image")
    weights = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    cut = opset.relu(opset.matmul(image, opset.constant(weights), False, False))
    features = opset.reduce_mean(cut, opset.constant([1, 2]), keep_dims=False)
    cut.output(0).get_tensor().set_names({"cut"})
    features.output(0).get_tensor().set_names({"features"})
    openvino_setup.write(ov.Model([cut, features], [image], "network"), folder / "backbone.xml")
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    return extract(folder)


def extract(folder: Path, cluster: Machines | None = None) -> bytes:
    """Return the array of the features as bytes."""
    dataset = replace(drawn_views.dataset(folder), machines=cluster)
    run = extraction.engine(folder, "features", IMAGE)
    others = extraction.elsewhere(dataset, folder, "features", IMAGE)
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "features.npy")
        extraction.extract(PlannedViews(dataset, IMAGE), run, output, others=others)
        return output.read_bytes()


class Nodes:
    """A cluster, whose nodes are raylets on this machine."""

    def __init__(self, flags: Path):
        from ray.cluster_utils import Cluster

        self._flags, self._cluster, self._nodes = flags, Cluster(), {}

    @property
    def address(self) -> str:
        return self._cluster.address

    def add(self, name: str, address: str = "127.0.0.2", **environment: str) -> None:
        environment |= {"PYTHONPATH": str(self._flags), "FLAGS": str(self._flags), "NODE": name}
        head = {} if self._nodes else {"include_dashboard": False}
        self._nodes[name] = self._cluster.add_node(
            num_cpus=1, node_ip_address=address, node_name=name, object_store_memory=80_000_000,
            include_log_monitor=False, env_vars=environment, **head,
        )  # fmt: skip

    def remove(self, name: str) -> None:
        self._cluster.remove_node(self._nodes.pop(name))

    def kill(self, name: str) -> None:
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def close(self) -> None:
        session = self._cluster.head_node.get_session_dir_path()
        self._cluster.shutdown()
        shutil.rmtree(session, ignore_errors=True)


@pytest.fixture(scope="module")
def bucket():
    """The address of a bucket of moto's S3 server, on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        settings = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "MAX_ATTEMPTS": "2", "DEFAULT_REGION": "us-east-1"}
        for name, value in (settings | {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}).items():
            patch.setenv(f"AWS_{name}", value)
        yield "s3://team/outputs"
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def nodes(bucket, tmp_path_factory):
    flags = tmp_path_factory.mktemp("flags")
    (flags / "sitecustomize.py").write_text(textwrap.dedent(IN_WORKERS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "of-these-tests" * 3)
        patch.setenv("RAY_worker_niceness", "0")  # else all other work of the machine goes before it
        pytest.importorskip(
            "ray",
            reason="without Ray: uv pip install --python .venv/bin/python --require-hashes -r requirements-ray.txt",
        )
        nodes = Nodes(flags)  # Ray has read the variables when it was imported
        nodes.flags = flags
        nodes.add("first")
        nodes.add("second")
        yield nodes
        nodes.close()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(machines, "BLOCK_VIEWS", 1)  # one photograph each


@pytest.fixture
def cluster(nodes, small_blocks, tmp_path):
    return Machines(nodes.address, str(tmp_path / "store"))


@contextlib.contextmanager
def flag(nodes, name: str, text: str = ""):
    (nodes.flags / name).write_text(text)
    try:
        yield
    finally:
        (nodes.flags / name).unlink()
        for path in nodes.flags.glob("paused-*"):
            path.unlink()


def block_count(folder: Path) -> int:
    return len([path for path in (folder / "store").glob("outputs/*/*") if not path.name.startswith(".")])


def test_two_machines_compute_the_same_bytes_and_the_next_run_finds_them(folder, expected, cluster, tmp_path, capfd):
    assert extract(folder, cluster) == expected
    assert "were computed on 2 machines" in capfd.readouterr().err
    assert print.__module__ == "builtins"  # Ray has not replaced it
    assert block_count(tmp_path) == 7 and not any((tmp_path / "store" / "probes").iterdir())
    assert extract(folder, Machines(NOBODY, str(tmp_path / "store"))) == expected  # nobody is asked


def test_a_full_disk_of_one_machine_is_said_and_the_other_one_computes_its_blocks(
    folder, expected, cluster, nodes, monkeypatch, capfd
):
    monkeypatch.setattr(machines, "TRIES", 2)
    results = []
    with flag(nodes, "pause"):  # the disk becomes full when the work has begun
        work = threading.Thread(target=lambda: results.append(extract(folder, cluster)))
        work.start()
        wait_for_both(nodes)
        (nodes.flags / "full-second").touch()
    work.join(60)
    (nodes.flags / "full-second").unlink()
    assert results == [expected]
    assert "a block is tried again" in (said := capfd.readouterr().err) and "No space left on device" in said
    assert said.count("gets no more blocks: 2 blocks failed there and were done elsewhere") == 1


def wait_for_both(nodes) -> dict[str, int]:
    """Wait until a worker of both nodes pauses. Returns the process of each, by the name of the node."""
    for _ in range(3000):
        paused = {path.name.split("-")[1]: int(path.name.split("-")[2]) for path in nodes.flags.glob("paused-*")}
        if len(paused) == 2:
            return paused
        time.sleep(0.02)
    pytest.fail("no worker of one of the nodes has begun")


def test_a_block_that_kills_its_workers_ends_the_work_and_what_is_done_stays(
    folder, expected, cluster, nodes, tmp_path, monkeypatch
):
    monkeypatch.setattr(machines, "TRIES", 2)  # each costs the start of a worker
    with flag(nodes, "die", "p5.png"), pytest.raises(ThawError) as caught:
        extract(folder, cluster)
    assert re.search(r"p5\.png\) failed 2 times: .*\): its worker died", str(caught.value))
    assert 0 < block_count(tmp_path) < 7 and "outputs are in" in str(caught.value)
    assert extract(folder, cluster) == expected


def test_machines_that_see_no_photographs_get_them_and_a_bucket_holds_the_outputs(
    folder, expected, nodes, small_blocks, bucket
):
    import boto3

    boto3.client("s3").create_bucket(Bucket="team")
    with flag(nodes, "blind"):
        assert extract(folder, Machines(nodes.address, bucket)) == expected
    stored = boto3.client("s3").list_objects_v2(Bucket="team")["Contents"]
    assert len(stored) == 7 and all(entry["Key"].startswith("outputs/outputs/") for entry in stored)


def test_machines_read_photographs_in_a_shard(folder, expected, cluster, tmp_path, capfd):
    sharded = shutil.copytree(folder, tmp_path / "sharded")
    shards.pack(sharded / "raw" / "images", {path.stem: path.name for path in (folder / "raw/images").iterdir()})
    assert not list(sharded.rglob("*.png")) and extract(sharded, cluster) == expected
    assert "were computed on 2 machines" in capfd.readouterr().err


def test_a_folder_that_a_machine_does_not_see_is_said_before_the_work(folder, nodes, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThawError, match=r"node \w{6}\) does not see /proc/self/cwd/store \(THAW_STORE\)"):
        extract(folder, Machines(nodes.address, "/proc/self/cwd/store"))
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_wrong_token_is_one_line(folder, nodes, tmp_path):
    program = (
        "import sys; sys.path[:0] = sys.argv[4:]; import test_cluster\n"
        "test_cluster.extract(test_cluster.Path(sys.argv[1]), test_cluster.Machines(*sys.argv[2:4]))"
    )
    arguments = [str(folder), nodes.address, str(tmp_path), SRC, str(Path(__file__).parent)]
    environment = os.environ | {"RAY_AUTH_TOKEN": "another" * 6}
    command = [sys.executable, "-c", program, *arguments]
    last = subprocess.run(command, env=environment, capture_output=True, text=True).stderr.strip().splitlines()[-1]
    assert "ThawError: THAW_EXECUTOR" in last and "another token than this machine" in last
    assert "this machine is not a part of it" in last


def test_a_machine_with_another_version_is_said_before_the_work(folder, cluster, nodes, tmp_path):
    nodes.add("other", OTHER_VERSION="1")
    with pytest.raises(ThawError, match=r"would compute other bytes: it has another OpenVINO: 1\.0, not \d"):
        extract(folder, cluster)
    nodes.remove("other")
    assert block_count(tmp_path) == 0


def test_a_machine_that_hangs_does_not_hold_up_the_end(folder, expected, cluster, nodes, monkeypatch):
    monkeypatch.setattr(machines, "LATE_SECONDS", 0)
    results = []
    with flag(nodes, "pause-second"):
        work = threading.Thread(target=lambda: results.append(extract(folder, cluster)))
        work.start()
        work.join(60)
        assert results == [expected]


def test_a_block_that_kills_its_workers_ends_the_work_where_others_take_it_over(
    folder, cluster, nodes, tmp_path, monkeypatch
):
    monkeypatch.setattr(machines, "TRIES", 2)
    monkeypatch.setattr(machines, "LATE_SECONDS", 0)
    with flag(nodes, "die", "p5.png"), pytest.raises(ThawError, match=r"p5\.png\) failed . times: .* worker died"):
        extract(folder, cluster)
    assert block_count(tmp_path) < 7


def test_machines_that_join_late_and_do_not_fit_are_named_once_and_compute_nothing(
    folder, expected, cluster, nodes, capfd
):
    results = []
    with flag(nodes, "pause"):
        work = threading.Thread(target=lambda: results.append(extract(folder, cluster)))
        work.start()
        wait_for_both(nodes)
        nodes.add("bare", "127.0.0.3", LACKS="openvino")
        nodes.add("older", "127.0.0.4", OTHER_VERSION="1")
        said = wait_for_lines(capfd, "gets no more blocks", 2)
    work.join(60)
    said += capfd.readouterr().err
    nodes.remove("bare")
    nodes.remove("older")
    assert results == [expected] and "tried again" not in said
    assert re.search(r"\(127\.0\.0\.3, .*\) gets no more blocks: it lacks a package: import of openvino halted", said)
    assert re.search(r"\(127\.0\.0\.4, .*\) gets no more blocks: it has another OpenVINO: 1\.0, not", said), said


def test_a_machine_that_is_killed_in_the_middle_changes_no_byte(folder, expected, cluster, nodes, capfd):
    results = []
    with flag(nodes, "pause"):
        work = threading.Thread(target=lambda: results.append(extract(folder, cluster)))
        work.start()
        worker = wait_for_both(nodes)["second"]
        nodes.kill("second")
        os.kill(worker, signal.SIGKILL)  # with its machine
        said = wait_for_lines(capfd, "gets no more blocks: Ray does not reach it any more")
    work.join(100)
    said += capfd.readouterr().err
    assert results == [expected]
    assert re.search(r"a block is tried again: .*\): its worker died", said)


def wait_for_lines(capfd, text: str, count: int = 1) -> str:
    """Wait for `count` lines with a text on stderr. Returns what was written there until then."""
    said = ""
    for _ in range(3000):
        said += capfd.readouterr().err
        if said.count(text) == count:
            return said
        time.sleep(0.02)
    pytest.fail(f"this is all that was said: {said}")


# --- Without a cluster ---


@pytest.fixture
def three():
    """Three machines of two cores: the second and the third have four blocks each, and all of these are late."""
    first, second, third = (machines._Machine(name, name, 2.0) for name in "abc")
    works = [machines._Work(None, None) for _ in range(8)]
    running = {n: machines._Try(work, second if n < 4 else third, -1e9) for n, work in enumerate(works)}
    return [first, second, third], works, running


def test_a_block_goes_to_the_machine_with_the_fewest_for_each_core_that_did_not_fail_with_it(three):
    (first, second, third), works, running = three
    large = machines._Machine("d", "d", 64.0)
    again = machines._Work(None, None, failed_on=[first])
    assert machines._least_loaded([first, second, third], running, works[0]) == first
    assert machines._least_loaded([first, second, third], running, again) == second
    assert machines._least_loaded([first, second, large], running | {8: machines._Try(again, large, 0)}, again) == large
    assert machines._least_loaded([first], running, again) == first  # there is no other


def test_an_idle_core_takes_over_each_late_block_in_turn_and_never_one_that_it_has(three):
    (first, second, third), works, running = three
    for number, expected in enumerate(works[:2], 8):
        taken = machines._take_over([first, second, third], running)
        assert (taken.work, taken.machine) == (expected, first)
        running[number] = taken
    assert machines._take_over([first, second, third], running) is None  # no core is idle
    del running[8]  # done, or failed
    works[0].is_done = True
    assert machines._take_over([first, second, third], running).work is works[2]  # has one try; works[1] has two
    for work in works:
        work.failed_on = [first]
    assert machines._take_over([first, second, third], running).machine == first  # the last resort
    for work in works:
        work.failed_on = [second] * machines.TRIES
    assert machines._take_over([first, second, third], running) is None  # their last try is running


def test_a_block_is_not_taken_over_while_it_is_not_late(three):
    (first, second, third), works, running = three
    now = time.monotonic()
    running = {number: tried._replace(start=now) for number, tried in running.items()}
    assert machines._take_over([first, second, third], running) is None
    running[3] = running[3]._replace(start=now - machines.LATE_SECONDS - 1)
    assert machines._take_over([first, second, third], running)[:2] == (works[3], first)


def test_without_the_variable_this_machine_computes(monkeypatch):
    monkeypatch.delenv(machines.EXECUTOR, raising=False)
    assert machines.of_environment() is None
    monkeypatch.setenv(machines.EXECUTOR, "local")
    assert machines.of_environment() is None


@pytest.mark.parametrize(
    ("address", "shared", "message"),
    [
        ("ray", "/mnt/store", "THAW_EXECUTOR should be HOST:PORT"),
        ("ray://host:10001", "/mnt/store", "THAW_EXECUTOR should be HOST:PORT"),
        ("host:6379", "", "THAW_EXECUTOR needs THAW_STORE"),
    ],
)
def test_settings_that_are_not_right_are_one_line(monkeypatch, address, shared, message):
    monkeypatch.setenv(machines.EXECUTOR, address)
    monkeypatch.setenv(shared_store.VARIABLE, shared)
    with pytest.raises(ThawError, match=message):
        machines.of_environment()


@pytest.mark.parametrize("address", ["gs://team/x", "ssh://thaw@server/srv/x", "S3://team/x"])
def test_a_store_of_another_kind_is_one_line_and_no_folder_of_its_name_is_made(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThawError, match=f"THAW_STORE should be a folder or s3://bucket/prefix, not '{address}'"):
        shared_store.named_store(address)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", [NOBODY, "cluster..lab:6379"])
def test_nobody_at_the_address_is_one_line(folder, tmp_path, address):
    pytest.importorskip(
        "ray", reason="without Ray: uv pip install --python .venv/bin/python --require-hashes -r requirements-ray.txt"
    )
    with pytest.raises(ThawError, match=f"nobody answers at {address}"):
        extract(folder, Machines(address, str(tmp_path)))


def test_without_ray_one_line_names_the_hashed_requirements(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ThawError, match=r"needs the package ray: run .*-r requirements-ray\.txt"):
        extract(folder, Machines(NOBODY, str(tmp_path)))


def test_too_little_room_in_the_store_is_said_before_the_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Folder, "free", lambda self: 100)
    with pytest.raises(ThawError, match=r"need 0 kB in .* \(THAW_STORE\), but 0 kB are free"):
        extract(folder, Machines(NOBODY, str(tmp_path)))


def test_pixels_and_other_engines_are_computed_here(folder):
    dataset = replace(drawn_views.dataset(folder), machines=Machines(NOBODY, "unused"))
    assert extraction.elsewhere(dataset, folder, None, IMAGE) is None
    assert extraction.elsewhere(dataset, folder, "cut", replace(IMAGE, engine="tensorflow")) is None


# --- Blocks ---


@pytest.fixture
def two_blocks(tmp_path):
    """A store with two blocks of rows, their keys, and the rows."""
    generator, opened = np.random.default_rng(0), Folder(tmp_path)
    keys = generator.integers(0, 256, (5, KEY_BYTES), np.uint8)
    rows = generator.normal(size=(5, 2, 3)).astype(np.float16)
    for part in (slice(0, 3), slice(3, 5)):
        name, content = blocks.pack(keys[part], rows[part])
        opened.write(f"outputs/kind/{name}", content)
    return opened, keys, rows


def test_rows_are_found_by_their_keys_in_any_order(two_blocks):
    opened, keys, rows = two_blocks
    kept = Blocks(opened, "outputs/kind", (2, 3), rows.dtype)
    wanted = [4, 0, 2, 1, 3, 3]
    found = kept.find(keys[wanted])
    np.testing.assert_array_equal(np.concatenate(list(kept.read(found))), rows[wanted], strict=True)
    assert (kept.find(keys ^ 1) < 0).all()


@pytest.mark.parametrize("room, reads", [(2**28, 9), (9 * 8 - 1, 18)])
def test_blocks_of_many_runs_are_read_once_where_memory_has_room(room, reads, tmp_path, monkeypatch):
    keys = np.arange(9 * KEY_BYTES, dtype=np.uint8).reshape(9, KEY_BYTES)
    rows = np.arange(9, dtype=np.float64)  # of 8 bytes
    opened, names = Folder(tmp_path), []
    for i in range(9):
        name, content = blocks.pack(keys[i : i + 1], rows[i : i + 1])
        opened.write(f"outputs/kind/{name}", content)
    monkeypatch.setattr(blocks, "OPEN_BYTES", room)
    kept = Blocks(opened, "outputs/kind", (), rows.dtype)
    places, read = kept.find(np.tile(keys, (2, 1))), opened.read
    monkeypatch.setattr(opened, "read", lambda name: names.append(name) or read(name))
    assert np.concatenate(list(kept.read(places))).tolist() == [*rows, *rows] and len(names) == reads


def test_what_is_no_block_is_not_read(two_blocks):
    opened, keys, rows = two_blocks
    opened.write("outputs/kind/strange-7", b"of another program")
    opened.write("outputs/kind/README", b"")
    assert (Blocks(opened, "outputs/kind", (2, 3), rows.dtype).find(keys) >= 0).all()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-40], lambda data: data[:-9] + b"damaged!!", lambda data: data + b"0"]
)
def test_a_damaged_block_is_said_and_removed(two_blocks, damage):
    opened, keys, rows = two_blocks
    first, second = opened.names("outputs/kind")
    content = opened.read(f"outputs/kind/{first}")
    opened.write(f"outputs/kind/{first}", damage(content))
    kept = Blocks(opened, "outputs/kind", (2, 3), rows.dtype)
    with pytest.raises(ThawError, match="was damaged and is removed: run again"):
        list(kept.read(kept.find(keys)))
    assert opened.names("outputs/kind") == [second]


def test_a_folder_is_not_made_where_the_store_is_not_mounted(tmp_path):
    with pytest.raises(FileNotFoundError):
        Folder(tmp_path / "unmounted").write("outputs/kind/block", b"")
    assert not any(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_removed_after_a_day(tmp_path):
    store = Folder(tmp_path)
    store.write("outputs/block", b"whole")
    names = (f".block.machine-{number}.partial" for number in (1, 2, 3))
    of_now, of_yesterday, not_ours = (tmp_path / "outputs" / name for name in names)
    of_now.touch()
    of_yesterday.touch()
    not_ours.mkdir()  # which cannot be removed as a file, nor can a file of another user
    before = time.time() - shared_store.LEFT_SECONDS - 60
    for path in (of_yesterday, not_ours):
        os.utime(path, (before, before))
    assert store.names("outputs") == ["block"]
    assert of_now.exists() and not_ours.exists() and not of_yesterday.exists()


def test_a_bucket_that_is_not_there_is_one_line(folder, bucket):
    with pytest.raises(ThawError, match=r"THAW_STORE cannot be used: s3://absent: .*NoSuchBucket"):
        extract(folder, Machines(NOBODY, "s3://absent"))


def test_an_endpoint_that_is_no_url_is_one_line(folder, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "10.0.0.5:9000")
    with pytest.raises(ThawError, match=r"THAW_STORE cannot be used: s3://team: Invalid endpoint: 10\.0\.0\.5:9000"):
        extract(folder, Machines(NOBODY, "s3://team"))


def test_an_object_without_a_byte_is_no_block(bucket):
    import boto3

    boto3.client("s3").create_bucket(Bucket="mounted")
    opened = shared_store.Bucket("s3://mounted/team")
    for name in ("outputs/kind/", "outputs/kind/block"):
        opened.write(name, name.encode() if name.endswith("block") else b"")
    assert opened.names("outputs/kind") == ["block"]
