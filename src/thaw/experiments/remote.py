"""The DVC remote: what `dvc push` leaves behind, and what lies damaged there."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from thaw.core.errors import ThawError
from thaw.core.paths import repository
from thaw.experiments import programs

BLOCK_BYTES = 1 << 20


class Mended(NamedTuple):
    """What `mend` did: numbers of objects."""

    read: int
    damaged: int
    missing: int
    replaced: int
    left: list[str]  # those that this machine has no intact copy of


def push_run_cache() -> tuple[int, int]:
    """Push the records of all runs, and those of their outputs that are here; return how many of each were pushed.

    `dvc push --run-cache` pushes the records alone. Raises ThawError if the remote cannot be written.
    """
    os.umask(0o002)  # `shared group` makes folders of objects writable to the group, but not those of runs
    with _repository("the run cache was not pushed") as repo:
        runs = [(path.parent.name, path.name) for path in Path(repo.stage_cache.cache_dir).glob("*/*/*")]
        outputs = set().union(*repo.stage_cache.get_used_objs(runs).values())
        here = {output for output in outputs if repo.cache.local.exists(output.value)}
        pushed, sent = repo.stage_cache.push(None), repo.cloud.push(here)
        remote = repo.cloud.get_remote_odb(None, "push --run-cache", hash_name="md5-dos2unix")
        arrived = {tuple(path.split("/")[-2:]) for path in remote.fs.find(remote.fs.join(remote.path, "runs"))}
        absent = set(pushed) - arrived  # DVC counts records as pushed that did not arrive
        if absent or sent.failed:
            raise ThawError(
                f"the run cache was not pushed: {len(absent):,} of {len(pushed):,} runs and {len(sent.failed):,} of "
                f"{len(here):,} outputs did not arrive (what DVC says of them stands above)"
            )
        return len(pushed), len(sent.transferred)


def knows_remote(commit: str) -> bool:
    """Return whether a remote was committed when an experiment ran: if not, its models are not pushed with it."""
    config = f"{commit}:./{os.path.relpath(repository(Path.cwd()) / '.dvc' / 'config')}"
    if not programs.succeeds("cat-file", "-e", config):  # the commit has no such file, or is not here
        return False
    return any(line.strip().startswith("remote =") for line in programs.git("show", config).splitlines())


def mend(name: str | None) -> Mended:
    """Replace the damaged objects of a remote, and add those that are missing, from this machine's cache.

    Every object that the cache has too is read from the remote: it is damaged if its MD5 is not its name. Missing are
    the objects that this commit uses, and the files of folders on the remote. `name`: of the remote; None for the
    default one. Raises ThawError if the remote cannot be read or written.
    """
    with _repository("the remote cannot be mended") as repo:
        remote, cache = repo.cloud.get_remote_odb(name), repo.cache.local
        on_remote, here = set(remote.all()), set(cache.all())
        read = sorted(on_remote & here)
        damaged = {oid for oid in tqdm(read, desc="mend", disable=None, unit="object") if not _is_intact(remote, oid)}
        used = {info.value for infos in repo.used_objs().values() for info in infos}
        folders = [oid for oid in (on_remote | used) & here if oid.endswith(".dir") and _is_intact(cache, oid)]
        missing = used.union(*(_files_of_folder(cache, oid) for oid in folders)) - on_remote
        replaced = {oid for oid in damaged | missing if oid in here and _is_intact(cache, oid)}
        for oid in sorted(replaced):
            if oid in damaged:
                remote.fs.remove(remote.oid_to_path(oid))
            remote.add(cache.oid_to_path(oid), cache.fs, oid)
    left = sorted((damaged | missing) - replaced)
    return Mended(len(read), len(damaged), len(missing), len(replaced), left)


@contextlib.contextmanager
def _repository(failure: str) -> Iterator:
    """Yield DVC's repository around this folder. Errors of DVC and of the remote become a ThawError after `failure`."""
    import asyncssh
    from botocore.exceptions import BotoCoreError, ClientError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            yield repo
    except (DvcException, BotoCoreError, ClientError, asyncssh.Error, OSError) as error:
        raise ThawError(f"{failure}: {error}") from None


def _files_of_folder(cache, oid: str) -> set[str]:
    """Return the objects of the files of a folder, from its list in a DVC cache."""
    return {entry["md5"] for entry in json.loads(Path(cache.oid_to_path(oid)).read_text(encoding="utf-8"))}


def _is_intact(store, oid: str) -> bool:
    """Return whether an object of a DVC store is what its name says: the MD5 of its bytes."""
    digest = hashlib.md5()
    with store.fs.open(store.oid_to_path(oid), "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest() == oid.removesuffix(".dir")
