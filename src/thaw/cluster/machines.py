"""The machines of a Ray cluster, on which the frozen layers run instead of on this one.

THAW_EXECUTOR and THAW_STORE in the environment name the cluster and what its machines share. They are no parameters:
where outputs are computed changes no byte, so no stage has to run again.
"""

import contextlib
import functools
import hashlib
import itertools
import logging
import os
import re
import socket
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

import thaw
from thaw.cluster import worker
from thaw.cluster.blocks import Blocks
from thaw.cluster.shared_store import VARIABLE, Store, named_store
from thaw.core import kernels, progress
from thaw.core.cache import say, size_text
from thaw.core.errors import ThawError
from thaw.core.store import Photograph
from thaw.engines import inference
from thaw.features import extraction
from thaw.features.extraction import Elsewhere, ImageSettings, PlannedViews

EXECUTOR = "THAW_EXECUTOR"  # a variable of the environment
LOCAL, AUTO = "local", "auto"  # no cluster; the one that this machine is a part of
BLOCK_VIEWS = 512  # a worker that dies loses at most these
BLOCK_BYTES = 2**26  # of the outputs of a block, and of its photographs where they are sent
TRIES = 3  # of a block; a machine on which so many failed that others then did gets no more
ANSWER_SECONDS = 20.0  # to reach the cluster
LOOK_SECONDS = 120.0  # for a machine to start a worker and look
ALONE_SECONDS = 60.0  # without any machine, before the work ends
UNREACHED = "Ray does not reach it any more"
LATE_SECONDS = 30.0  # of a block on a machine, after which an idle core of another one takes it over


def of_environment() -> "Machines | None":
    """Return the machines that the environment names; None if it names none. Raises ThawError if it is not right."""
    address = os.environ.get(EXECUTOR, LOCAL)
    if address in ("", LOCAL):
        return None
    _, colon, port = address.rpartition(":")
    if address != AUTO and not (colon and port.isdecimal() and "//" not in address):
        raise ThawError(f"{EXECUTOR} should be HOST:PORT of a Ray cluster, {AUTO} or {LOCAL}, not {address}")
    store = os.environ.get(VARIABLE)
    if not store:
        raise ThawError(f"{EXECUTOR} needs {VARIABLE}: a folder that all machines see, or s3://bucket/prefix")
    return Machines(address, store)


class _Machine(NamedTuple):
    """A machine that has a core to compute on."""

    node: str  # its id in Ray
    name: str  # for the person
    cores: float


@dataclass(eq=False)
class _Work:
    """A block on its way."""

    block: worker.Block
    contents: object  # the reference of the photographs' bytes in Ray; None: the machines read them
    is_done: bool = False
    failed_on: list[_Machine] = field(default_factory=list)  # one for each try


class _Try(NamedTuple):
    """A block on a machine."""

    work: _Work
    machine: _Machine
    start: float  # on the monotonic clock, in seconds


class Machines:
    """What computes outputs of frozen layers on the machines of a Ray cluster.

    Args:
        address: of the cluster, HOST:PORT, or AUTO.
        store: what they share: see `shared_store.named_store`.
    """

    def __init__(self, address: str, store: str):
        self._address, self._store = address, store

    def __call__(self, backbone: Path, layer: str, image: ImageSettings) -> Elsewhere:
        """Return what computes the outputs of a frozen layer of the network in the folder `backbone`."""
        return functools.partial(self._compute, backbone, layer, image)

    def _compute(
        self, backbone: Path, layer: str, image: ImageSettings,
        planned: PlannedViews, rows: np.ndarray, keys: np.ndarray,
    ) -> Iterator[np.ndarray]:  # fmt: skip
        """Yield the outputs of these rows of the views. What is in the store already is not computed again."""
        if not len(rows):
            return
        if not kernels.CHOICE.baseline or kernels.CHOICE.late:
            raise ThawError(
                f"{EXECUTOR}: machines compute the same bytes with {kernels.BASELINE} alone, and here the kernels are "
                f"{kernels.describe(kernels.CHOICE)}"
            )
        shape = inference.output_shapes(backbone / "backbone.xml", [layer], image.size)[layer]
        code = Path(worker.__file__).read_bytes()
        kind = hashlib.sha256(extraction.kind(backbone, layer, image).encode() + code).hexdigest()[:32]
        with _readable_errors():
            store = named_store(self._store)
            blocks = Blocks(store, f"outputs/{kind}", shape, extraction.dtype(layer))
            absent = np.flatnonzero(blocks.find(keys)[:, 0] < 0)
            if len(absent):
                order = worker.Order(store.address, f"outputs/{kind}", layer, image, extraction.computing())
                row_bytes = int(np.prod(shape)) * extraction.dtype(layer).itemsize
                self._check_room(store, len(absent) * row_bytes)
                views_of_block = max(1, min(BLOCK_VIEWS, BLOCK_BYTES // row_bytes))
                with _connected(self._address) as ray:
                    _Run(ray, store, order, backbone).fill(planned, rows[absent], keys[absent], views_of_block)
            places = blocks.find(keys)
            if (places < 0).any():
                raise ThawError(f"{store.address} lost outputs while others were computed: run again")
            yield from blocks.read(places)

    def _check_room(self, store: Store, needed: int) -> None:
        free = store.free()
        if free is not None and free < needed:
            raise ThawError(
                f"the outputs need {size_text(needed)} in {store.address} ({VARIABLE}), but {size_text(free)} are free"
            )


class _Run:
    """One connection to a cluster, while blocks are computed."""

    def __init__(self, ray: ModuleType, store: Store, order: worker.Order, backbone: Path):
        self._ray, self._store, self._order = ray, store, order
        network = backbone / "backbone.xml"
        self._network = [ray.put(path.read_bytes()) for path in (network, network.with_suffix(".bin"))]
        self._done: Counter[str] = Counter()  # views by the name of the machine
        self._failures: Counter[_Machine] = Counter()  # of blocks that others did, since its last success
        self._left_out: set[_Machine] = set()  # they get no block

    def fill(self, planned: PlannedViews, rows: np.ndarray, keys: np.ndarray, views_of_block: int) -> None:
        """Compute these rows of the views, which have these keys, and write them to the store as blocks.

        Raises ThawError if a machine does not fit, or a block cannot be computed. What is done stays in the store.
        """
        source, _ = next(planned.photographs(rows[:1]))
        is_seen = self._check_machines(source)
        waiting = self._blocks(planned, rows, keys, views_of_block, is_seen)
        again: deque[_Work] = deque()
        running: dict[object, _Try] = {}
        last_seen = time.monotonic()
        with progress.bar("computing on other machines", len(rows)) as bar:
            while self._done.total() < len(rows):
                machines = self._fit()
                cores = sum(machine.cores for machine in machines)
                while sum(tried.machine in machines for tried in running.values()) < 2 * cores:
                    if work := again.popleft() if again else next(waiting, None):
                        tried = _Try(work, _least_loaded(machines, running, work), time.monotonic())
                    elif not (tried := _take_over(machines, running)):
                        break
                    running[self._submit(tried)] = tried
                if cores:
                    last_seen = time.monotonic()
                elif time.monotonic() - last_seen > ALONE_SECONDS:
                    raise ThawError(f"no machine of the cluster is left: {self._kept()}")
                if not running:
                    time.sleep(1)
                    continue
                done, _ = self._ray.wait(list(running), timeout=5)
                for reference in done:
                    work, machine, _ = running.pop(reference)
                    if work.is_done:  # on another machine
                        continue
                    runs_elsewhere = any(other.work is work for other in running.values())
                    work.is_done = self._is_done(reference, work, machine, runs_elsewhere)
                    if work.is_done:
                        bar.update(len(work.block.keys))
                    elif not runs_elsewhere:
                        again.append(work)
        counts = ", ".join(f"{where} {count:,}" for where, count in sorted(self._done.items()))
        say(f"outputs were computed on {len(self._done)} machines: {counts}")

    def _blocks(
        self, planned: PlannedViews, rows: np.ndarray, keys: np.ndarray, views_of_block: int, is_seen: bool
    ) -> Iterator[_Work]:
        """Yield blocks of whole photographs, of about so many views. Machines that see no files get the bytes."""
        folder, start = Path.cwd() if is_seen else None, 0
        photographs = planned.photographs(rows)
        while chosen := list(itertools.islice(photographs, 1)):
            contents, count, size = [], len(chosen[0][1]), 0
            if not is_seen:
                contents = [chosen[0][0].read_bytes()]
                size = len(contents[0])
            while count < views_of_block and size < BLOCK_BYTES and (following := next(photographs, None)):
                chosen.append(following)
                count += len(following[1])
                if not is_seen:
                    contents.append(following[0].read_bytes())
                    size += len(contents[-1])
            sources = [] if contents else [source for source, _ in chosen]
            names, plans = [str(source) for source, _ in chosen], [plan for _, plan in chosen]
            block = worker.Block(sources, names, plans, keys[start : start + count], folder)
            start += count
            yield _Work(block, self._ray.put(contents) if contents else None)

    def _submit(self, tried: _Try) -> object:
        """Start the computation of a block on a machine, and return its reference."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_cpus": 1,
            "max_retries": 0,  # tries are counted here, and made elsewhere
            "scheduling_strategy": NodeAffinitySchedulingStrategy(tried.machine.node, soft=False),
        }
        task = self._ray.remote(worker.compute).options(**options)
        return task.remote(self._order, self._network, tried.work.block, tried.work.contents)

    def _is_done(self, reference: object, work: _Work, machine: _Machine, runs_elsewhere: bool) -> bool:
        """Return whether a block is done.

        Args:
            reference: Ray's reference to the outcome of the task.
            work: The block.
            machine: Where it ran.
            runs_elsewhere: Whether another machine computes it, too.

        Returns:
            False if the block is to be tried again.

        Raises:
            ThawError: If it cannot be done.
        """
        try:
            outcome = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            # Ray names the missing package in its text alone.
            lacking = re.search(
                r"^\s*(?:\S+\.)?(?:ModuleNotFound|PackageNotFound|Import)Error: (.*)", str(error), re.MULTILINE
            )
            if lacking:
                outcome = worker.Outcome(unfit=f"it lacks a package: {lacking[1]}")
            elif isinstance(error.cause, self._ray.exceptions.RayError):  # it did not get the network or photographs
                outcome = worker.Outcome(failed=" ".join(str(error.cause).split())[:150])
            else:
                raise  # a fault of Thaw's own
        except self._ray.exceptions.TaskUnschedulableError:  # the block has not begun
            outcome = worker.Outcome(unfit=UNREACHED)
        except self._ray.exceptions.RayError as error:  # the worker, or its machine, has died
            if isinstance(error, self._ray.exceptions.NodeDiedError):
                self._leave_out(machine, UNREACHED)
            death = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            outcome = worker.Outcome(failed=f"its worker died ({death})")
        if outcome.name:
            self._done[machine.name] += len(work.block.keys)
            self._failures[machine] = 0
            for other in {*work.failed_on} - {machine}:  # so the block was not the cause, nor the store
                self._failures[other] += 1
                if self._failures[other] == TRIES and len(self._fit()) > 1:
                    self._leave_out(other, f"{TRIES} blocks failed there and were done elsewhere")
            return True
        if outcome.unfit:
            self._leave_out(machine, outcome.unfit)
            return False
        work.failed_on.append(machine)
        if outcome.unreadable or (len(work.failed_on) >= TRIES and not runs_elsewhere):
            names = ", ".join(work.block.names[:3]) + (", …" if len(work.block.names) > 3 else "")
            raise ThawError(
                f"a block of {len(work.block.names):,} photographs ({names}) failed "
                f"{'once' if len(work.failed_on) == 1 else f'{len(work.failed_on)} times'}: "
                f"{machine.name}: {outcome.unreadable or outcome.failed}; {self._kept()}"
            )
        say(f"a block is tried again: {machine.name}: {outcome.failed}")
        return False

    def _fit(self) -> list[_Machine]:
        return [machine for machine in _workers(self._ray) if machine not in self._left_out]

    def _leave_out(self, machine: _Machine, reason: str) -> None:
        if machine not in self._left_out:
            self._left_out.add(machine)
            say(f"{machine.name} gets no more blocks: {reason}")

    def _kept(self) -> str:
        return f"{sum(self._done.values()):,} outputs are in {self._store.address}, where the next run finds them"

    def _check_machines(self, photograph: Photograph) -> bool:
        """Return whether all machines see the photographs. Raises ThawError if one cannot take part in the work."""
        machines = _workers(self._ray)
        if not machines:
            raise ThawError(f"{EXECUTOR}: no machine of the cluster has a core to compute on")
        token, content = f"probes/{uuid.uuid4().hex}", os.urandom(16)
        self._store.write(token, content)
        try:
            answers = self._answers(machines, token, photograph)
            for (node, name, _), answer in answers.items():
                if answer.error:
                    raise ThawError(f"{name} cannot use {self._store.address} ({VARIABLE}): {answer.error}")
                if answer.token != content or not self._has(f"{token}-{node}", content):
                    raise ThawError(
                        f"{name} does not see {self._store.address} ({VARIABLE}) as this machine does: mount "
                        "the same folder there under the same path, or take s3://bucket/prefix"
                    )
                if different := worker.difference(answer.computing, self._order.computing):
                    raise ThawError(
                        f"{name} would compute other bytes: {different}; install the requirements.txt of the "
                        "same commit there"
                    )
        finally:
            for name in (token, *(f"{token}-{machine.node}" for machine in machines)):
                self._store.remove(name)
        own = hashlib.sha256(photograph.read_bytes()).digest()
        return all(answer.photograph == own for answer in answers.values())

    def _answers(self, machines: list[_Machine], token: str, photograph: Photograph) -> dict[_Machine, worker.Answer]:
        """Return what each machine says. One that has died is left out."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = self._ray.remote(worker.look)
        asked = {}
        for machine in machines:
            strategy = NodeAffinitySchedulingStrategy(machine.node, soft=False)
            options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy}
            arguments = self._store.address, token, Path.cwd(), photograph
            asked[machine] = look.options(**options).remote(*arguments)
        self._ray.wait(list(asked.values()), num_returns=len(asked), timeout=LOOK_SECONDS)
        answers = {}
        for machine in machines:
            try:
                answers[machine] = self._ray.get(asked[machine], timeout=0)
            except self._ray.exceptions.GetTimeoutError:
                raise ThawError(f"{machine.name} does not answer within {LOOK_SECONDS:.0f} s") from None
            except (self._ray.exceptions.NodeDiedError, self._ray.exceptions.TaskUnschedulableError):
                say(f"{machine.name} is gone, and takes no part")
            except self._ray.exceptions.RayError as error:
                lines = [line for line in str(error).splitlines() if line.strip()]
                raise ThawError(
                    f"{machine.name} cannot start Thaw ({lines[-1].strip()}): set it up as this machine"
                ) from None
        return answers

    def _has(self, name: str, content: bytes) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return self._store.read(name) == content
        return False


def _least_loaded(machines: list[_Machine], running: Mapping[object, _Try], work: _Work) -> _Machine:
    """Return the machine with the fewest blocks for each core. One that failed with `work` is the last resort."""
    load = Counter(tried.machine for tried in running.values())
    others = [machine for machine in machines if machine not in work.failed_on]
    return min(others or machines, key=lambda machine: load[machine] / machine.cores)


def _take_over(machines: list[_Machine], running: Mapping[object, _Try]) -> _Try | None:
    """Return a late block for a machine with an idle core that does not have it; None if there is none.

    Without it, a machine that hangs, or computes for others, would hold up the end of the work.
    """
    now, load = time.monotonic(), Counter(tried.machine for tried in running.values())
    tries: dict[_Work, list[_Try]] = {}
    for tried in running.values():
        tries.setdefault(tried.work, []).append(tried)
    late = {  # block → where it is
        work: {tried.machine for tried in of_work}
        for work, of_work in tries.items()
        if not work.is_done and len(work.failed_on) < TRIES and now - of_work[-1].start >= LATE_SECONDS
    }
    for is_last_resort in False, True:  # a machine that failed with the block
        for machine in machines:
            works = [w for w in late if machine not in late[w] and (is_last_resort or machine not in w.failed_on)]
            if works and load[machine] < machine.cores:
                return _Try(min(works, key=lambda work: len(late[work])), machine, now)
    return None


def _workers(ray: ModuleType) -> list[_Machine]:
    """Return the machines that have a core to compute on, in the order of their ids."""
    machines = []
    for found in ray.nodes():
        cores = found["Resources"].get("CPU", 0)
        if found["Alive"] and cores >= 1:
            where = f"{found['NodeManagerAddress']}, node {found['NodeID'][:6]}"
            machines.append(_Machine(found["NodeID"], f"{found['NodeManagerHostname']} ({where})", cores))
    return sorted(machines)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[ModuleType]:
    """Yield the module `ray`, connected to a cluster. Its workers get the code of this process.

    Raises ThawError if the package is missing, or if no cluster lets this machine in.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")  # else it replaces `print` in this process
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # else it waits for minutes for what is no cluster
    try:
        import ray
    except ImportError:
        raise ThawError(
            f"{EXECUTOR} needs the package ray: run `.venv/bin/uv pip install --python .venv/bin/python "
            "--require-hashes -r requirements-ray.txt`"
        ) from None
    if address != AUTO:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        except (OSError, UnicodeError) as error:  # the latter: no host can have this name
            why = getattr(error, "strerror", None) or error
            raise ThawError(f"{EXECUTOR}: nobody answers at {address} ({why})") from None
    try:
        code = {"py_modules": [str(Path(thaw.__file__).parent)]}
        ray.init(address, runtime_env=code, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ThawError(
            f"{EXECUTOR}={address}: {' '.join(str(error).split())[:300]}: no Ray cluster answers there, or this "
            "machine is not a part of it (`ray start`), or it has another token than this machine "
            "(RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token)"
        ) from None
    except (RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ThawError(f"{EXECUTOR}={address}: {' '.join(str(error).split())[:300]}") from None
    if os.environ.get("RAY_AUTH_MODE") != "token":
        say("this Ray cluster asks for no token: whoever reaches its ports can run programs on its machines")
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    """Raise what the store raises as a line for the person."""
    try:
        yield
    except OSError as error:
        raise ThawError(f"{VARIABLE} cannot be used: {error}") from None
