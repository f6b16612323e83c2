"""With test-time flips, the output for an image is the mean over it and its mirror images."""

import numpy as np
import pytest

from thaw.engines import flips


def corner(batches):
    """Return the upper left pixel of each image; as an engine does, one batch later."""
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
def test_each_batch_has_the_mean_output_of_its_mirror_images(batches, wanted):
    outputs = list(flips.average_flips(corner, wanted)(iter(batches)))
    assert [len(output) for output in outputs] == [2, 2, 1]
    for batch, output in zip(batches, outputs, strict=True):
        pixels = [batch[:, y, x].astype(np.float64) for y, x in CORNERS[wanted]]
        np.testing.assert_allclose(output, np.mean(pixels, axis=0))


def test_without_flips_no_bit_changes(batches):
    for plain, output in zip(corner(batches), flips.average_flips(corner, None)(batches), strict=True):
        np.testing.assert_array_equal(output, plain, strict=True)
