"""Mend the DVC remote: `python src/mend.py`, where the data is whole, replaces what lies damaged there.

A pull with `verify` takes nothing that is damaged, but a push looks neither into what the remote has already nor for
the single files of a folder that it once had. Here every object that this machine's cache has, too, is read from the
remote; what is not what its name says is replaced, and so is what a folder on the remote or this commit lacks there.
"""

import argparse
import hashlib
import json
from pathlib import Path

from tqdm import tqdm

from thaw.errors import ThawError, run


def main() -> None:
    parser = argparse.ArgumentParser(description="Replace what lies damaged on the DVC remote.")
    parser.add_argument("--remote", metavar="NAME", help="default: the default remote")
    options = parser.parse_args()

    from botocore.exceptions import BotoCoreError, ClientError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            remote, cache = repo.cloud.get_remote_odb(options.remote), repo.cache.local
            there, here = set(remote.all()), set(cache.all())
            read = sorted(there & here)
            damaged = {oid for oid in tqdm(read, desc="mend", disable=None, unit="object") if not whole(remote, oid)}
            used = {info.value for infos in repo.used_objs().values() for info in infos}
            lists = [oid for oid in (there | used) & here if oid.endswith(".dir") and whole(cache, oid)]
            missing = used.union(*(entries(cache, listed) for listed in lists)) - there
            mendable = {oid for oid in damaged | missing if oid in here and whole(cache, oid)}
            for oid in sorted(mendable):
                if oid in damaged:
                    remote.fs.remove(remote.oid_to_path(oid))
                remote.add(cache.oid_to_path(oid), cache.fs, oid)
    except (DvcException, BotoCoreError, ClientError, OSError) as error:
        raise ThawError(f"the remote cannot be mended: {error}") from None
    found = f"of {len(read):,} objects on the remote {len(damaged):,} lay damaged, and {len(missing):,} were missing"
    print(f"mend: {found}; {len(mendable):,} are replaced")
    if left := sorted((damaged | missing) - mendable):
        raise ThawError(f"this machine has no whole copy of {', '.join(left)}: run it where there is one")


def entries(cache, folder: str) -> set[str]:
    """The objects of the files of a folder, by its list in a DVC cache."""
    return {entry["md5"] for entry in json.loads(Path(cache.oid_to_path(folder)).read_text())}


def whole(store, oid: str) -> bool:
    """Whether an object of a DVC store is what its name says: the MD5 of its bytes."""
    digest = hashlib.md5()
    with store.fs.open(store.oid_to_path(oid), "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == oid.removesuffix(".dir")


if __name__ == "__main__":
    run(main)
