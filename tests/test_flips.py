"""With test-time flips a photograph and its mirror images are answered alike, by the mean of their answers."""

import numpy as np
import pytest

from thaw import flips


def corner(batches):
    """Answer each photograph with its upper left pixel; like an engine, one batch behind."""
    waiting = None
    for batch in batches:
        if waiting is not None:
            yield waiting
        waiting = batch[:, 0, 0].astype(np.float32)
    if waiting is not None:
        yield waiting


@pytest.fixture
def batches():
    generator = np.random.default_rng(1)
    return [generator.integers(0, 256, (count, 5, 5, 3)).astype(np.uint8) for count in (2, 2, 1)]


CORNERS = {
    None: [(0, 0)],
    "horizontal": [(0, 0), (0, -1)],
    "vertical": [(0, 0), (-1, 0)],
    "both": [(0, 0), (0, -1), (-1, 0), (-1, -1)],
}


@pytest.mark.parametrize("wanted", flips.AXES)
def test_each_batch_has_the_mean_answer_to_its_mirror_images(batches, wanted):
    answers = list(flips.averaged(corner, wanted)(iter(batches)))
    assert [len(answer) for answer in answers] == [2, 2, 1]
    for batch, answer in zip(batches, answers, strict=True):
        pixels = [batch[:, y, x].astype(np.float64) for y, x in CORNERS[wanted]]
        np.testing.assert_allclose(answer, np.mean(pixels, axis=0))


def test_without_flips_no_bit_changes(batches):
    for plain, answer in zip(corner(batches), flips.averaged(corner, None)(batches), strict=True):
        np.testing.assert_array_equal(answer, plain, strict=True)
