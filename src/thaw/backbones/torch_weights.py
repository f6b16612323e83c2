"""Read a PyTorch state dict in the legacy (not zip) format without PyTorch.

The file is five pickles in a row (a magic number, the protocol, the writer's system, the state dict, the
storages' keys) followed, for each key in that order, by an int64 count and the raw numbers. The state dict
names its storages by persistent id and rebuilds each tensor as a strided view of one of them.
"""

import math
import os
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from thaw.core.errors import ThawError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass(frozen=True)
class StridedView:
    """A tensor before its numbers are read: the storage, the first number in it, and the steps between numbers."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements, as PyTorch counts them


def _rebuild_tensor(storage, offset, shape, strides, *_gradient_state) -> StridedView:
    return StridedView(storage, offset, tuple(shape), tuple(strides))


ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _StateDictUnpickler(pickle.Unpickler):
    """Allows only what a state dict of plain tensors needs: any other pickle could run a program."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.dtypes: dict[str, np.dtype] = {}

    def find_class(self, module: str, name: str):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a plain state dict")
        return ALLOWED[module, name]

    def persistent_load(self, pid) -> str:
        kind, dtype, key, _device, _count, view = pid
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"an unknown persistent id: {kind}")
        self.dtypes[key] = dtype
        return key


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Return every tensor of a legacy PyTorch state dict as a C-contiguous array (float32 or int64).

    Raises ThawError if the file is damaged, has another format, or holds anything but tensors.
    """
    if zipfile.is_zipfile(path):
        raise ThawError(
            f"{path} is in PyTorch's zip format, and only the older format can be read: write it again with "
            "torch.save(state_dict, path, _use_new_zipfile_serialization=False)"
        )
    try:
        with path.open("rb") as file:
            if _StateDictUnpickler(file).load() != LEGACY_MAGIC:
                raise pickle.UnpicklingError("not PyTorch's legacy format")
            _StateDictUnpickler(file).load()
            _StateDictUnpickler(file).load()
            unpickler = _StateDictUnpickler(file)
            views = unpickler.load()
            keys = _StateDictUnpickler(file).load()
            storages = {key: _read_storage(file, unpickler.dtypes[key]) for key in keys}
        return {name: _read_view(storages[view.storage], view) for name, view in views.items()}
    except Exception as error:  # a damaged pickle raises almost anything
        raise ThawError(f"{path}: not a readable PyTorch state dict ({error})") from error


def _read_storage(file: BinaryIO, dtype: np.dtype) -> np.ndarray:
    size = int.from_bytes(file.read(8), "little") * dtype.itemsize
    if size > os.fstat(file.fileno()).st_size - file.tell():
        raise EOFError("the file ends early")
    return np.frombuffer(file.read(size), dtype)


def _read_view(storage: np.ndarray, view: StridedView) -> np.ndarray:
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if view.offset < 0 or min(view.strides, default=0) < 0 or max(last + 1, math.prod(view.shape)) > storage.size:
        raise ValueError("a tensor reaches outside its storage")
    strides = [stride * storage.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, strides).copy()
