"""The kinds of heads: which module trains and reads each.

To add a kind, write its module and register it here. The module has two functions:
`train(params: thaw.parameters.head.Head, data: HeadData, log: Log) -> list[Trained]` and `load(folder: Path) -> Head`,
with the types of `thaw.heads.protocol`. `head.json`, which the head saves, names its kind.
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from thaw.core import archive
from thaw.core.errors import ThawError
from thaw.core.files import read_json

if TYPE_CHECKING:
    from thaw.core.section import Section
    from thaw.heads.protocol import Head, HeadData, Log, Trained

EXTENDED = "extended"  # asked for by `head.extend`; all others by their name in `head.kind`
SEVERAL_LABELS = "_multi"  # ends the name of the kind that takes another's place for images with several labels

KINDS = {  # by their modules' names: whoever checks params.yaml imports none of them
    "linear": "thaw.heads.linear",
    "network": "thaw.heads.network",  # imports Keras
    EXTENDED: "thaw.heads.extended",
    f"linear{SEVERAL_LABELS}": "thaw.heads.linear_multi",
    f"network{SEVERAL_LABELS}": "thaw.heads.network_multi",
}


def named_kinds() -> list[str]:
    """Return the kinds that `head.kind` may name."""
    return [kind for kind in KINDS if kind != EXTENDED and not kind.endswith(SEVERAL_LABELS)]


def train(params: "Section", data: "HeadData", log: "Log") -> "list[Trained]":
    """Train heads of the kind that the parameters name, and return all of them.

    `params` is the section `head`: `thaw.parameters.head.Head`. Heads are trained for each variant of `data.training`.
    `log` gets the variant, the step, and its scores on the validation split.
    """
    kind = EXTENDED if params.extend else params.kind
    if data.validation.values is not None:
        kind += SEVERAL_LABELS
    if kind not in KINDS:
        raise ThawError(f"head.kind: {params.kind} has no form for several labels ({kind}): see {__name__}")
    return _module(kind).train(params, data, log)


def load(folder: Path) -> "Head":
    """Return the head that was saved in a folder. Raises ThawError if there is none of a known kind."""
    kind = read_json(folder / "head.json")["kind"]
    if kind not in KINDS:
        raise ThawError(f"{folder / 'head.json'}: there is no kind of head {kind!r}, only {', '.join(KINDS)}")
    return _module(kind).load(folder)


def load_packed(path: Path, part: str = ".") -> "Head":
    """Return the head that was saved in the folder `part` of an archive. Raises ThawError if it cannot be read."""
    with archive.unpack(path) as folder:
        if not (folder / part / "head.json").exists():
            raise ThawError(f"{path} holds no head {part}: run `dvc repro`")
        return load(folder / part)


def _module(kind: str) -> ModuleType:
    return importlib.import_module(KINDS[kind])
