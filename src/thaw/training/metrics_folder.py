"""The metrics and curves of a training, as DVCLive writes them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dvclive import Live
from scmrepo.exceptions import SCMError

from thaw.core.errors import ThawError
from thaw.core.files import atomic_folder


@contextlib.contextmanager
def replace(folder: Path) -> Iterator[Live]:
    """Yield what logs metrics and curves; they replace the folder if the block ends without an error.

    Raises ThawError in a Git repository without a commit, which DVCLive refuses.
    """
    with atomic_folder(folder) as temporary:
        try:
            live = Live(str(temporary), dvcyaml=None, save_dvc_exp=False, report=None)
        except SCMError as error:
            raise ThawError(
                f"DVCLive needs a commit in this Git repository ({error}): run `git commit` first"
            ) from None
        with live:
            yield live
