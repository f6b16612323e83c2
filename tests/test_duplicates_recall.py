"""Copies of images that share most of what they show, such as solar cells, are found where a twentieth is cut off."""

import cv2
import numpy as np
import pytest

from thaw.splitting import candidates, duplicates, first_look
from thaw.splitting.thumbnails import thumbnail

WHOLE = candidates.windows(mirrored=False)[0]


def cell(seed: int) -> np.ndarray:
    """(200, 200, 3) uint8: the frame and three thin lines that all cells share, and fine crystals of its own."""
    crystals = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(200, 200)), (0, 0), 2)
    pixels = 170 + 20 * crystals / crystals.std()
    for line in (36, 100, 164):
        pixels[line - 1 : line + 1, 6:-6] = 90
    pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:] = 90, 90, 90, 90
    return np.repeat(np.clip(pixels, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def without_a_twentieth(pixels: np.ndarray, side: str) -> np.ndarray:
    return {"top": pixels[10:], "bottom": pixels[:-10], "left": pixels[:, 10:], "right": pixels[:, :-10]}[side]


@pytest.mark.parametrize("side", ["top", "bottom"])  # across the lines
def test_a_copy_without_a_twentieth_of_a_side_is_found(side):
    images = {f"{seed:02}": cell(seed) for seed in range(20)}
    images |= {f"{name}-copy": without_a_twentieth(pixels, side) for name, pixels in images.items()}
    groups = duplicates.group_near_duplicates(list(images), np.stack([thumbnail(image) for image in images.values()]))
    assert groups == [name[:2] for name in images]


@pytest.mark.parametrize(
    ("side", "kept"),
    [
        ("top", candidates.Window(down=0.05, step_down=0.95)),
        ("bottom", candidates.Window(step_down=0.95)),
        ("left", candidates.Window(across=0.05, step_across=0.95)),
        ("right", candidates.Window(step_across=0.95)),
    ],
)
def test_steps_of_registration_lead_to_where_a_copy_was_cut(side, kept):
    original, copy = (thumbnail(pixels)["luma"] for pixels in (cell(0), without_a_twentieth(cell(0), side)))
    goal = candidates.small_images(copy[None], WHOLE)
    placing, unexplained = np.eye(3, dtype=np.float32), []
    for _ in range(5):
        found, steps = first_look.register(goal, first_look.small_image(original, placing[:2])[None])
        unexplained.append(float(found[0]))
        placing = placing @ steps[0]
    assert unexplained[0] > 2 * unexplained[-1]
    points = np.array([[8, 8, 56, 56], [8, 56, 8, 56], [1, 1, 1, 1]])
    assert np.abs(placing[:2] @ points - kept.placing() @ points).max() < 0.5  # pixels of the thumbnail
