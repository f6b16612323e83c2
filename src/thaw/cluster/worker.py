"""What runs on the machines of a cluster: a look at what is there, and blocks of photographs through the frozen layers.

Each worker computes on one core, in batches of a fixed size, so that neither the number of workers nor the death of one
changes a byte.
"""

import functools
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thaw.cluster import blocks
from thaw.cluster.shared_store import open_store
from thaw.core.errors import ThawError
from thaw.core.store import Photograph
from thaw.engines import inference
from thaw.features import extraction
from thaw.images import augmentation_plan, decoding, views
from thaw.images.views import Plan


@dataclass(frozen=True)
class Order:
    """What all blocks of an extraction have in common."""

    store: str  # its address
    folder: str  # of the blocks, in the store
    layer: str
    image: extraction.ImageSettings
    computing: dict[str, str]  # of the machine that ordered: see `extraction.computing`


@dataclass(frozen=True)
class Block:
    """Photographs, and the views of each that are wanted."""

    sources: list[Photograph]  # relative to `folder`; empty if their bytes are sent
    names: list[str]
    plans: list[Plan]
    keys: np.ndarray  # (views, KEY_BYTES) uint8
    folder: Path | None = None  # the project, where this machine sees its files


@dataclass(frozen=True)
class Outcome:
    """What became of a block. Exactly one of the four is not empty."""

    name: str = ""  # of the block in the store, where it is now
    unreadable: str = ""  # why no machine can compute it
    failed: str = ""  # why this machine could not
    unfit: str = ""  # why this machine may compute no block


@dataclass(frozen=True)
class Answer:
    """What a machine says before the work."""

    computing: dict[str, str]
    token: bytes | None  # that it reads in the store
    error: str  # why it cannot use the store; else empty
    photograph: bytes | None  # the SHA-256 of the photograph at the path that was asked for; None: it sees none


def look(store: str, token: str, folder: Path, photograph: Photograph) -> Answer:
    """Return what this machine computes with, and what it sees.

    Args:
        store: The address of the store.
        token: The name of a file in it, which is read; one beside it is written.
        folder: The project.
        photograph: One of them, relative to the project.
    """
    content, error = None, ""
    try:
        opened = open_store(store)
        content = opened.read(token)
        opened.write(f"{token}-{node()}", content)
    except FileNotFoundError:
        pass  # it sees another folder, or none
    except OSError as caught:
        error = str(caught)
    try:
        os.chdir(folder)
        seen = hashlib.sha256(photograph.read_bytes()).digest()
    except (OSError, ThawError):
        seen = None
    return Answer(extraction.computing(), content, error, seen)


def compute(order: Order, network: list, block: Block, contents: list[bytes] | None) -> Outcome:
    """Compute the outputs of a block and write them to the store, whole or not at all.

    Args:
        order: What is computed.
        network: References of Ray to the bytes of the network's `.xml` and `.bin`.
        block: Of which views.
        contents: The bytes of its photographs; None: they are read here.
    """
    if different := difference(extraction.computing(), order.computing):
        return Outcome(unfit=different)
    name = ""

    def drawn() -> Iterator[np.ndarray]:
        nonlocal name
        keys = iter(block.keys)
        for number, plan in enumerate(block.plans):
            name = block.names[number]
            content = contents[number] if contents else _read(block.sources[number])
            content_hash = hashlib.sha256(content).digest()
            for view, key in zip(plan, keys, strict=False):
                if extraction.view_key(content_hash, _values(view)) != key.tobytes():
                    raise OSError("it reads another photograph there")
            size, resize = order.image.size, order.image.resize
            yield views.planned(decoding.decode(content, size), plan, size, resize)

    try:
        if block.folder is not None:
            os.chdir(block.folder)
        run = _compiled(order.folder, order.layer, order.image, *network)
        rows = np.concatenate(list(run(inference.rebatch(drawn()))))
        stored, content = blocks.pack(block.keys, rows)
        open_store(order.store).write(f"{order.folder}/{stored}", content)
    except ThawError as error:
        return Outcome(unreadable=f"{name}: {error}")
    except (OSError, MemoryError) as error:
        return Outcome(failed=f"{name}: {error or 'its memory is full'}")
    return Outcome(name=stored)


def difference(there: dict[str, str], here: dict[str, str]) -> str:
    """Say in what a machine differs from the one that ordered; empty if both compute the same."""
    for name, value in here.items():
        if there.get(name) != value:
            return f"it has another {name}: {there.get(name, 'none')}, not {value}"
    return ""


def node() -> str:
    """Return the id of this machine in Ray."""
    import ray

    return ray.get_runtime_context().get_node_id()


def _read(source: Photograph) -> bytes:
    """Return the bytes of a photograph. Another machine may read it where this one raises OSError."""
    try:
        return source.read_bytes()
    except ThawError as error:
        raise OSError(str(error)) from None


def _values(view: dict | None) -> np.ndarray:
    """Return the values of a view in the plan, as they are in its key."""
    values = [None if view is None else view[column] for column in augmentation_plan.COLUMNS]
    return np.array([np.nan if value is None else value for value in values], np.float64)


@functools.lru_cache(maxsize=1)
def _compiled(folder: str, layer: str, image: extraction.ImageSettings, xml, weights) -> inference.Run:
    """Return the frozen layers, compiled once in a process. `folder` names the network, as its hash is a part of it."""
    import ray

    with tempfile.TemporaryDirectory() as scratch:
        network = Path(scratch, "backbone.xml")
        network.write_bytes(ray.get(xml))
        network.with_suffix(".bin").write_bytes(ray.get(weights))
        return extraction.engine(Path(scratch), layer, image, cores=1)
