"""A state dict of PyTorch's legacy format is read safely and rightly."""

import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from thaw.backbones import torch_weights
from thaw.core.errors import ThawError

MAGIC, PROTOCOL = torch_weights.LEGACY_MAGIC, 1001


class FloatStorage:
    kind = "FloatStorage"

    def __init__(self, key: str, numbers: np.ndarray):
        self.key, self.numbers = key, numbers


class LongStorage(FloatStorage):
    kind = "LongStorage"


def _rebuild_tensor_v2(*arguments):
    raise AssertionError("only its name is written")


class Tensor:
    """A strided view of a storage, pickled as PyTorch pickles a tensor."""

    def __init__(self, storage: FloatStorage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]):
        self.arguments = storage, offset, shape, strides, False, OrderedDict()

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, FloatStorage):
            return None
        return "storage", type(value), value.key, "cpu", len(value.numbers), None


@pytest.fixture
def write(tmp_path, monkeypatch):
    """A function that writes a state dict as `torch.save` did before it wrote zip files."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for value, module in ((FloatStorage, torch), (LongStorage, torch), (_rebuild_tensor_v2, utils)):
        monkeypatch.setattr(value, "__module__", module.__name__)
        setattr(module, value.__name__, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def write(state: object, *storages: FloatStorage, magic: object = MAGIC, keys: object = None) -> Path:
        path = tmp_path / "weights.pth"
        with path.open("wb") as file:
            parts = magic, PROTOCOL, {"little_endian": True}, state, [s.key for s in storages] if keys is None else keys
            for part in parts:
                Pickler(file, 2).dump(part)
            for storage in storages:
                file.write(len(storage.numbers).to_bytes(8, "little") + storage.numbers.tobytes())
        return path

    return write


def floats(count: int, key: str = "0") -> FloatStorage:
    return FloatStorage(key, np.arange(count, dtype="<f4"))


def refusal(path: Path) -> str:
    with pytest.raises(ThawError) as caught:
        torch_weights.read_state_dict(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_contiguous_tensor_is_read(write):
    state = torch_weights.read_state_dict(write({"w": Tensor(floats(6), 0, (2, 3), (3, 1))}, floats(6)))
    np.testing.assert_array_equal(state["w"], np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)


def test_the_strides_of_a_transposed_tensor_are_honoured(write):
    state = torch_weights.read_state_dict(write({"w": Tensor(floats(6), 0, (2, 3), (1, 2))}, floats(6)))
    np.testing.assert_array_equal(state["w"], np.arange(6).reshape(3, 2).T)
    assert state["w"].flags.c_contiguous


def test_the_strides_of_a_convolution_in_the_order_of_tensorflow_are_honoured(write):
    kernel = np.arange(2 * 3 * 4 * 5, dtype="<f4")  # (h, w, in, out), seen as (out, in, h, w)
    path = write({"w": Tensor(FloatStorage("0", kernel), 0, (5, 4, 2, 3), (1, 5, 60, 20))}, FloatStorage("0", kernel))
    expected = kernel.reshape(2, 3, 4, 5).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(torch_weights.read_state_dict(path)["w"], expected)


def test_two_tensors_may_share_a_storage(write):
    storage = floats(10)
    path = write({"a": Tensor(storage, 0, (4,), (1,)), "b": Tensor(storage, 4, (3,), (2,))}, storage)
    state = torch_weights.read_state_dict(path)
    assert state["a"].tolist() == [0, 1, 2, 3]
    assert state["b"].tolist() == [4, 6, 8]


def test_storages_stand_in_the_order_of_their_keys_and_not_of_the_tensors(write):
    one, two = floats(2, "1"), FloatStorage("2", np.array([7, 8, 9], "<f4"))
    state = torch_weights.read_state_dict(
        write(OrderedDict(x=Tensor(one, 0, (2,), (1,)), y=Tensor(two, 0, (3,), (1,))), two, one)
    )
    assert state["x"].tolist() == [0, 1]
    assert state["y"].tolist() == [7, 8, 9]


def test_whole_numbers_and_a_number_without_dimensions_are_read(write):
    count = LongStorage("0", np.array([2**40], "<i8"))
    state = torch_weights.read_state_dict(write({"n": Tensor(count, 0, (), ())}, count))
    assert state["n"].dtype == np.int64
    assert state["n"] == 2**40
    assert state["n"].shape == ()


class Call:
    """What a hostile file holds: an object that is 'rebuilt' by a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("part", ["magic", "state", "value", "keys"])
@pytest.mark.parametrize("function", [os.system, eval, exec, print, getattr])
def test_a_program_in_the_file_is_refused_and_does_not_run(write, tmp_path, part, function):
    code = (
        f"touch {tmp_path}/ran"
        if function is os.system
        else f"__import__('pathlib').Path({str(tmp_path)!r}, 'ran').touch()"
    )
    hostile = Call(function, code)
    parts = {"magic": {"magic": hostile}, "keys": {"keys": hostile}}.get(part, {})
    state = {"state": hostile, "value": {"w": hostile}}.get(part, {"w": Tensor(floats(6), 0, (6,), (1,))})
    assert "is not part of a plain state dict" in refusal(write(state, floats(6), **parts))
    assert not (tmp_path / "ran").exists()


def test_the_hostile_file_of_these_tests_would_run_in_a_plain_unpickler(tmp_path):
    pickle.loads(pickle.dumps(Call(os.system, f"touch {tmp_path}/ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "tensor",
    [
        (0, (7,), (1,)),
        (1, (6,), (1,)),
        (0, (2, 3), (4, 1)),
        (-1, (2,), (1,)),
        (5, (2,), (-1,)),
        (0, (2,), (10**9,)),
        (0, (7,), (0,)),
    ],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(write, tensor):
    assert "outside its storage" in refusal(write({"w": Tensor(floats(6), *tensor)}, floats(6)))


def test_a_truncated_file_is_refused_wherever_it_ends(write):
    path = write({"w": Tensor(floats(6), 0, (2, 3), (3, 1))}, floats(6))
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert "not a readable PyTorch state dict" in refusal(path)


def test_a_file_in_pytorchs_newer_format_says_how_to_write_the_older_one(tmp_path):
    with zipfile.ZipFile(tmp_path / "lite0.pth", "w") as file:
        file.writestr("lite0/data.pkl", b"\x80\x02}q\x00.")
    with pytest.raises(ThawError, match="_use_new_zipfile_serialization=False"):
        torch_weights.read_state_dict(tmp_path / "lite0.pth")


def test_damage_anywhere_is_refused_in_one_line_or_read_over(write):
    path = write({"w": Tensor(floats(6), 0, (2, 3), (3, 1))}, floats(6))
    data = path.read_bytes()
    for position in range(len(data)):
        for value in (0, 1, ord("."), ord("R")):
            path.write_bytes(data[:position] + bytes([value]) + data[position + 1 :])
            try:
                torch_weights.read_state_dict(path)
            except ThawError as error:
                assert "\n" not in str(error)


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(write):
    path = write({"w": Tensor(floats(6), 0, (2, 3), (3, 1))}, floats(6))
    data = path.read_bytes()
    for count in (7, 2**40, 2**62, 2**64 - 1):
        path.write_bytes(data[:-32] + count.to_bytes(8, "little") + data[-24:])
        refusal(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), b"<html>404</html>", bytes(1000)])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    refusal(tmp_path / "weights.pth")


def test_a_missing_file_is_refused(tmp_path):
    refusal(tmp_path / "weights.pth")
