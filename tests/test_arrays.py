"""Arrays are written row by row, completely or with an error, and read memory-mapped."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from thaw.core import arrays
from thaw.core.errors import ThawError

SRC = Path(__file__).parent.parent / "src"


def batches(*sizes: int, dtype=np.float16) -> list[np.ndarray]:
    """Batches of (size, 2, 3) that count up, one after the other."""
    counted = np.arange(sum(sizes) * 6).astype(dtype).reshape(-1, 2, 3)
    return np.split(counted, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("sizes", [(5,), (2, 3), (1, 1, 1, 2), (3, 0, 2), (0, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_batches_read_back_as_one_array(tmp_path, sizes, dtype):
    shape = arrays.write_rows(tmp_path / "a.npy", iter(batches(*sizes, dtype=dtype)), 5)
    assert shape == (5, 2, 3)
    np.testing.assert_array_equal(arrays.open_rows(tmp_path / "a.npy"), batches(5, dtype=dtype)[0], strict=True)


def test_numpy_reads_what_was_written(tmp_path):
    arrays.write_rows(tmp_path / "a.npy", batches(2, 3), 5)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), batches(5)[0], strict=True)


def test_how_the_rows_are_batched_does_not_change_the_bytes(tmp_path):
    arrays.write_rows(tmp_path / "a.npy", batches(5), 5)
    arrays.write_rows(tmp_path / "b.npy", batches(1, 4), 5)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_rows_that_lie_apart_in_memory_are_written_in_order(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays.write_rows(tmp_path / "a.npy", [array.T[:3], array.T[3:]], 6)
    np.testing.assert_array_equal(arrays.open_rows(tmp_path / "a.npy"), array.T)


@pytest.mark.parametrize("due", [4, 6])
def test_rows_that_do_not_add_up_are_an_error(tmp_path, due):
    with pytest.raises(ValueError, match=f"5 rows were written, not {due}"):
        arrays.write_rows(tmp_path / "a.npy", batches(2, 3), due)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 4])
def test_a_value_that_is_not_finite_is_refused(tmp_path, value, row):
    rows = batches(5)[0]
    rows[row, 1, 1] = value
    with pytest.raises(ThawError, match=r"a\.npy: .*not finite.*float16"):
        arrays.write_rows(tmp_path / "a.npy", [rows[:2], rows[2:]], 5)


def test_an_array_is_read_from_the_disk_and_cannot_be_changed(tmp_path):
    arrays.write_rows(tmp_path / "a.npy", batches(5), 5)
    array = arrays.open_rows(tmp_path / "a.npy")
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_what_was_read_can_be_released_and_read_again(tmp_path):
    arrays.write_rows(tmp_path / "a.npy", batches(5), 5)
    array = arrays.open_rows(tmp_path / "a.npy")
    before = array[:].copy()
    arrays.release(array)
    np.testing.assert_array_equal(array, before)


def test_a_missing_array_is_one_line(tmp_path):
    with pytest.raises(ThawError, match="is missing: run `dvc repro`"):
        arrays.open_rows(tmp_path / "a.npy")


@pytest.mark.parametrize("kept", [0, 3, 20, 100, 150])
def test_a_damaged_array_is_one_line(tmp_path, kept):
    path = tmp_path / "a.npy"
    arrays.write_rows(path, batches(5), 5)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ThawError, match=r"a\.npy is damaged") as caught:
        arrays.open_rows(path)
    assert "\n" not in str(caught.value)


def test_an_array_that_could_run_a_program_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, None], dtype=object))
    with pytest.raises(ThawError, match="damaged"):
        arrays.open_rows(tmp_path / "a.npy")


@pytest.mark.parametrize("limit", [0, 64, 4096])
def test_a_full_disk_is_an_error_of_the_write(tmp_path, limit):
    program = (
        "import resource, numpy as np; from pathlib import Path; from thaw.core import arrays\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "try:\n    arrays.write_rows(Path('a.npy'), [np.zeros((10, 100))] * 2, 20)\n"
        "except OSError as error:\n    print(error.errno)\n"
    )
    environment = {"PYTHONPATH": str(SRC), "PYTHONDONTWRITEBYTECODE": "1"}  # truncated byte code would stay
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "27", done.stderr  # EFBIG


def test_rows_come_in_blocks_and_in_order(monkeypatch):
    array = np.arange(40, dtype=np.float16).reshape(10, 4)
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 3 * array[0].nbytes)
    blocks = list(arrays.blocks(array, np.array([9, 1, 1, 0, 5, 6, 7])))
    assert [len(block) for block in blocks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), array[[9, 1, 1, 0, 5, 6, 7]])


class Computed:
    """Rows that are expensive: it notes which ones are computed."""

    shape, dtype = (10, 2, 3), np.dtype(np.float16)

    def __init__(self):
        self.computed = []

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.computed += list(rows)
        return np.zeros((len(rows), *self.shape[1:]), self.dtype)


def test_the_size_of_a_block_is_known_without_computing_a_row(monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 4 * 2 * 3 * 2)
    array = Computed()
    assert [len(block) for block in arrays.blocks(array, np.arange(10))] == [4, 4, 2]
    assert array.computed == list(range(10))


def test_without_rows_there_is_one_empty_block():
    (block,) = arrays.blocks(np.zeros((0, 4), np.float16), np.arange(0))
    assert block.shape == (0, 4)


def test_maps_are_pooled_over_their_positions_and_features_stay(monkeypatch):
    maps = np.random.default_rng(0).random((10, 3, 2, 4)).astype(np.float16)
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 3 * maps[0].nbytes)
    pooled = arrays.pooled(maps)
    assert pooled.dtype == np.float16
    np.testing.assert_allclose(pooled, maps.astype(np.float64).mean(axis=(1, 2)), atol=1e-3)
    assert arrays.pooled(pooled) is pooled


# Reading ahead


def test_batches_come_in_order_and_release_what_they_read(tmp_path):
    arrays.write_rows(tmp_path / "rows.npy", [np.arange(18, dtype=np.float16).reshape(6, 3)], 6)
    rows_on_disk = arrays.open_rows(tmp_path / "rows.npy")
    batches = [np.array([3, 1]), np.array([0]), np.array([5, 5, 2])]
    read = list(arrays.read_ahead(rows_on_disk, batches))
    for rows, x in zip(batches, read, strict=True):
        np.testing.assert_array_equal(x, np.asarray(rows_on_disk)[rows])


def test_the_next_batch_is_read_while_one_is_used():
    read = [threading.Event() for _ in range(3)]

    class Source:
        shape, dtype = (3, 1), np.dtype(np.float16)

        def __getitem__(self, rows):
            read[rows[0]].set()
            return np.zeros((len(rows), 1), np.float16)

    batches = arrays.read_ahead(Source(), (np.array([row]) for row in range(3)))
    next(batches)
    assert read[1].wait(10)
    assert not read[2].is_set()
    assert len(list(batches)) == 2


def test_an_error_of_the_source_is_raised_where_its_batch_is_due():
    class Source:
        def __getitem__(self, rows):
            if rows[0] == 1:
                raise ThawError("gone")
            return rows

    batches = arrays.read_ahead(Source(), (np.array([row]) for row in range(3)))
    assert next(batches) == 0
    with pytest.raises(ThawError, match="gone"):
        next(batches)


def test_every_number_of_half_precision_becomes_the_same_single():
    values = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(2, -1, 4)
    np.testing.assert_array_equal(arrays.as_float32(values), values.astype(np.float32))
    assert arrays.as_float32(values[:, ::2]).shape == (2, 4096, 4)
    assert arrays.as_float32(values[:0]).shape == (0, 8192, 4)


def test_rows_are_read_when_they_are_indexed(tmp_path):
    array = np.arange(20, dtype=np.float16).reshape(10, 2)
    arrays.write_rows(tmp_path / "rows.npy", [array], 10)
    rows = arrays.Rows(arrays.open_rows(tmp_path / "rows.npy"), np.array([7, 1, 4]))
    assert (len(rows), rows.shape, rows.dtype) == (3, (3, 2), np.float16)
    np.testing.assert_array_equal(rows[1:], array[[1, 4]])
    np.testing.assert_array_equal(rows[np.array([2, 0])], array[[4, 7]])
