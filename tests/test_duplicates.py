"""Near-duplicates share a group, different images that look alike do not."""

from functools import cache

import cv2
import numpy as np
import pytest

from thaw.splitting import candidates, duplicates, first_look, second_look
from thaw.splitting.thumbnails import THUMBNAIL, thumbnail


@cache
def photograph(seed: int) -> np.ndarray:
    """(180, 240, 3) uint8: discs and bars of any colour on a smooth background."""
    rng = np.random.default_rng(seed)
    ground = rng.uniform(40, 200, (3, 4, 3)).astype(np.float32)
    pixels = cv2.resize(ground, (240, 180), interpolation=cv2.INTER_CUBIC)
    for _ in range(8):
        x, y, w, h = (int(v) for v in rng.uniform(0, 1, 4) * (240, 180, 60, 60))
        color = rng.uniform(30, 220, 3).tolist()
        cv2.ellipse(pixels, (x, y), (8 + w // 2, 8 + h // 2), float(w), 0, 360, color, -1)
        cv2.rectangle(pixels, (y, x // 2), (y + h, x // 2 + w // 3), color[::-1], -1)
    return to_pixels(cv2.GaussianBlur(pixels, (0, 0), 1))


def solar_cell(seed: int) -> np.ndarray:
    """(100, 100, 3) uint8: frame, busbars and shading that all cells share, faint blemishes of its own."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[-1:1:100j, -1:1:100j]
    pixels = 150 - 20 * down**2 - 15 * across**2
    pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:] = 30, 30, 30, 30
    for busbar in (20, 50, 80):
        pixels[busbar - 1 : busbar + 1, 5:-5] = 50
    for x, y in rng.uniform(-0.8, 0.8, (12, 2)):
        pixels -= 12 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / 0.008)
    return to_pixels(np.repeat(pixels[:, :, None], 3, axis=2) + rng.normal(0, 2, (100, 100, 1)))


def shirt(color: tuple[int, int, int], seed: int | None = None) -> np.ndarray:
    """(200, 200, 3) uint8: a T-shirt on white ground, with a print of its own if there is a seed."""
    pixels = np.full((200, 200, 3), 252, np.uint8)
    outline = [
        (60, 30),
        (140, 30),
        (180, 70),
        (160, 90),
        (142, 75),
        (142, 175),
        (58, 175),
        (58, 75),
        (40, 90),
        (20, 70),
    ]
    cv2.fillPoly(pixels, [np.array(outline)], color)
    cv2.ellipse(pixels, (100, 30), (18, 9), 0, 0, 360, (252, 252, 252), -1)
    if seed is not None:
        rng = np.random.default_rng(seed)
        for _ in range(4):
            x, y, w, h = (int(v) for v in rng.uniform((75, 70, 6, 6), (115, 110, 22, 22)))
            cv2.rectangle(pixels, (x, y), (x + w, y + h), rng.uniform(0, 255, 3).tolist(), -1)
    return cv2.GaussianBlur(pixels, (0, 0), 0.8)


def to_pixels(values: np.ndarray) -> np.ndarray:
    return np.clip(values.round(), 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR)


def noisy(pixels: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return to_pixels(pixels + np.random.default_rng(seed).normal(0, sigma, pixels.shape))


def group(images: dict[str, np.ndarray], mirrored: bool = False) -> dict[str, str]:
    thumbnails = np.stack([thumbnail(pixels) for pixels in images.values()])
    groups = duplicates.group_near_duplicates(list(images), thumbnails, mirrored=mirrored)
    return dict(zip(images, groups, strict=True))


WHOLE = candidates.windows(mirrored=False)[0]
COPIES = {
    "JPEG at quality 30": lambda pixels: jpeg(pixels, 30),
    "half the size": lambda pixels: cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "one and a half times the size": lambda pixels: cv2.resize(pixels, None, fx=1.5, fy=1.5),
    "brighter": lambda pixels: to_pixels(pixels * 1.1),
    "clipped highlights": lambda pixels: to_pixels(pixels + 50.0),
    "darker": lambda pixels: to_pixels(pixels - 25.0),
    "less contrast": lambda pixels: to_pixels(0.9 * pixels + 0.1 * pixels.mean()),
    "noise": lambda pixels: noisy(pixels, 3),
    "cropped on the left": lambda pixels: pixels[:, pixels.shape[1] // 50 :],
    "cropped at the bottom": lambda pixels: pixels[: -(pixels.shape[0] // 50)],
    "a tenth cut off on the right": lambda pixels: pixels[:, : -(pixels.shape[1] // 10)],
    "a tenth cut off at the top": lambda pixels: pixels[pixels.shape[0] // 10 :],
    "a twentieth cut off on the left": lambda pixels: pixels[:, pixels.shape[1] // 20 :],
    "blurred": lambda pixels: cv2.GaussianBlur(pixels, (0, 0), 1),
    "grey": lambda pixels: np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2),
}


@pytest.mark.parametrize("count", [1, 20, 150])
@pytest.mark.parametrize("change", COPIES)
def test_an_altered_copy_joins_its_original_and_nothing_else(change, count):
    originals = {f"{seed:03}": photograph(seed) for seed in range(count)}
    copies = {f"{name}-copy": COPIES[change](pixels) for name, pixels in originals.items()}
    assert group(originals | copies) == {name: name[:3] for name in originals | copies}


def test_look_alikes_stay_apart_and_their_copies_are_found():
    cells = {f"{seed:03}": solar_cell(seed) for seed in range(150)}
    copies = {f"{name}-copy": jpeg(pixels, 50) for name, pixels in cells.items()}
    assert group(cells | copies) == {name: name[:3] for name in cells | copies}


def test_garments_of_one_shape_on_white_ground_stay_apart():
    colors = {"red": (190, 40, 40), "blue": (40, 60, 180), "green": (40, 140, 60), "navy": (25, 30, 60)}
    plain = {name: shirt(color) for name, color in colors.items()}
    printed = {f"printed-{seed:02}": shirt((230, 230, 230), seed) for seed in range(12)}
    assert group(plain | printed) == {name: name for name in plain | printed}


def test_two_photographs_that_differ_in_one_place_only_stay_apart():
    waves = 80 * np.outer(np.sin(np.arange(40) / 3.5), np.sin(np.arange(100) / 3.5))
    other = photograph(3).astype(float)
    other[20:60, 20:120] += waves[:, :, None]
    assert group({"a": photograph(3), "b": to_pixels(other)}) == {"a": "a", "b": "b"}


def test_detail_that_a_brighter_copy_has_lost_does_not_count_but_white_in_its_place_does():
    pixels = photograph(3).astype(float)
    sky, detail = (slice(0, 70), slice(None)), (photograph(5)[:70] - 128.0) / 3
    bright, grey, white = pixels.copy(), pixels.copy(), pixels.copy()
    bright[sky], grey[sky], white[sky] = 225 + detail, 170 + detail, 255
    pairs = {"clipped": (bright, bright + 30), "too dark": (255 - bright, 225 - bright), "painted": (grey, white)}
    groups = {name: group(dict(zip("ab", map(to_pixels, pair), strict=True))) for name, pair in pairs.items()}
    assert {name: pair["b"] for name, pair in groups.items()} == {"clipped": "a", "too dark": "a", "painted": "b"}


def test_two_photographs_of_one_printed_garment_are_near_duplicates():
    first = shirt((40, 60, 180), 3)
    turned = cv2.warpAffine(
        first, cv2.getRotationMatrix2D((100, 100), 1, 1.02), (200, 200), borderMode=cv2.BORDER_REPLICATE
    )
    assert group({"a": first, "b": noisy(turned, 3)}) == {"a": "a", "b": "a"}


@pytest.mark.parametrize("draw", [photograph, solar_cell])
def test_a_mirrored_copy_is_found_only_where_that_is_asked(draw):
    originals = {f"{seed:03}": draw(seed) for seed in range(20)}
    images = originals | {f"{name}-copy": pixels[:, ::-1] for name, pixels in originals.items()}
    assert group(images) == {name: name for name in images}
    assert group(images, mirrored=True) == {name: name[:3] for name in images}


def test_two_objects_on_the_same_white_ground_stay_apart():
    disc, bottle = np.full((2, 100, 100, 3), 255, np.uint8)
    cv2.circle(disc, (50, 50), 16, (90, 90, 90), -1)
    cv2.rectangle(bottle, (42, 30), (58, 80), (90, 90, 90), -1)
    assert group({"bottle": bottle, "disc": disc}) == {"bottle": "bottle", "disc": "disc"}


def test_frames_of_one_scene_share_a_group_even_where_they_are_most_of_the_data():
    frames = {f"frame-{seed:03}": noisy(photograph(0), 3, seed) for seed in range(200)}
    others = {f"other-{seed:03}": photograph(seed) for seed in range(1, 40)}
    assert group(frames | others) == dict.fromkeys(frames, "frame-000") | {name: name for name in others}


@pytest.mark.filterwarnings("error")
def test_flat_images_share_a_group_only_where_they_are_the_same():
    flat = {f"{level:03}": np.full((50, 50, 3), level, np.uint8) for level in (0, 1, 100, 120, 255)}
    again = {f"{name}-again": pixels for name, pixels in flat.items()}
    assert group(flat | again) == {name: name[:3] for name in flat | again}


@pytest.mark.filterwarnings("error")
def test_different_noise_is_no_duplicate():
    noise = {f"{seed:02}": noisy(np.full((50, 50, 3), 128, np.uint8), 20, seed) for seed in range(40)}
    assert group(noise) == {name: name for name in noise}


def test_a_chain_of_near_duplicates_is_one_group_under_its_smallest_id():
    pixels = photograph(3)
    chain = {"c": pixels, "b": pixels[:, 5:], "a": pixels[:, 10:], "0": photograph(4)}
    assert group(chain) == {"c": "a", "b": "a", "a": "a", "0": "0"}


def test_copies_with_opposite_sides_cut_off_are_in_the_group_of_their_original():
    pixels = photograph(3)
    images = {"a": pixels[:, 24:], "b": pixels[:, :-24], "c": pixels[18:], "d": pixels[:-18], "e": pixels}
    assert group(images) == dict.fromkeys(images, "a")


def test_a_chain_whose_ends_differ_is_not_one_group():
    first, last = photograph(3).astype(float), photograph(5)
    images = {f"{step:02}": to_pixels(first + (last - first) * step / 20) for step in range(21)}
    pairs = [group({name: images[name] for name in (f"{step:02}", f"{step + 1:02}")}) for step in range(20)]
    assert all(len(set(pair.values())) == 1 for pair in pairs)
    groups = group(images)
    assert groups["00"] != groups["20"]
    assert 1 < len(set(groups.values())) <= 21 // 2  # pieces, of two images or more on average


def test_the_order_of_the_images_changes_no_group():
    images = {f"{seed:03}": photograph(seed % 60) for seed in range(120)}
    images |= {f"{seed:03}-copy": jpeg(photograph(seed), 40) for seed in range(60)}
    shuffled = [list(images)[i] for i in np.random.default_rng(1).permutation(len(images))]
    assert group({name: images[name] for name in shuffled}) == group(images)


@pytest.fixture
def compared(monkeypatch):
    """The number of pairs in each call of `register`."""
    calls, register = [], first_look.register

    def counted(first, second):
        calls.append(len(first))
        return register(first, second)

    monkeypatch.setattr(first_look, "register", counted)
    return calls


def test_exact_copies_cost_no_comparisons(compared):
    thumbnails = np.stack([thumbnail(photograph(seed)) for seed in range(10)] * 1000)
    groups = duplicates.group_near_duplicates([f"{i:05}" for i in range(10_000)], thumbnails)
    assert sum(compared) <= 45
    assert groups == [f"{i % 10:05}" for i in range(10_000)]


@pytest.mark.parametrize("draw", [photograph, solar_cell])
def test_few_pairs_of_many_images_are_compared(draw):
    thumbnails = np.stack([thumbnail(draw(seed)) for seed in range(600)])
    parts, pairs = candidates.windows(mirrored=False), 600 * 599 / 2
    found = np.hstack(list(candidates.find(parts, candidates.hashes(thumbnails, np.arange(600), parts))))
    assert (found[2] == 0).sum() < 0.05 * pairs
    assert found.shape[1] < 0.1 * pairs  # four parts of each image are looked up too, to find copies that were cut


def test_frames_of_one_scene_need_few_second_looks(monkeypatch):
    calls, differences = [], second_look.differences
    monkeypatch.setattr(second_look, "differences", lambda *pair: calls.append(1) or differences(*pair))
    assert len(set(group({f"{seed:03}": noisy(photograph(0), 3, seed) for seed in range(40)}).values())) == 1
    assert len(calls) < 5 * 40


def test_the_number_of_threads_changes_no_group_and_no_comparison(monkeypatch):
    images = [solar_cell(seed) for seed in range(60)] + [photograph(seed) for seed in range(20)]
    images += [noisy(image, 3, seed) for seed in range(6) for image in images[::10]]  # groups of seven
    thumbnails, ids = np.stack([thumbnail(image) for image in images]), [f"{i:03}" for i in range(len(images))]
    calls, match = [], second_look.match
    monkeypatch.setattr(second_look, "match", lambda *pair: calls.append(1) or match(*pair))
    outcomes = []
    for threads in (1, 2, 9):
        monkeypatch.setattr(duplicates, "usable_cores", lambda threads=threads: threads)
        outcomes.append((duplicates.group_near_duplicates(ids, thumbnails), len(calls)))
        calls.clear()
    assert len(set(outcomes[0][0])) == 80
    assert outcomes == [outcomes[0]] * 3


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels[:, 6:],
        lambda pixels: pixels[8:-8, 8:-8],
        lambda pixels: to_pixels(255 * (pixels / 255) ** 0.5),
        lambda pixels: to_pixels(pixels + 60.0),
    ],
    ids=["shift", "stretch", "tone curve", "clipped highlights"],
)
def test_registration_and_tone_explain_a_difference(change):
    rng = np.random.default_rng(0)
    clouds = cv2.GaussianBlur(rng.normal(size=(200, 200, 1)), (0, 0), 6)
    pixels = to_pixels(np.repeat((130 + 50 * clouds / clouds.std())[:, :, None], 3, axis=2))
    pair = (candidates.small_images(thumbnail(image)["luma"][None], WHOLE) for image in (pixels, change(pixels)))
    assert first_look.unexplained_difference(*pair) < first_look.MAX_UNEXPLAINED


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_placing_of_a_window_is_where_its_pixels_are_in_the_image(mirrored):
    luma = thumbnail(photograph(1))["luma"].astype(np.float32)
    for part in candidates.windows(mirrored):
        laid = cv2.warpAffine(luma, part.placing(), luma.shape, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        expected = candidates.small_images(laid[None], WHOLE)[0]
        assert np.abs(candidates.small_images(luma[None], part)[0] - expected)[1:-1, 1:-1].mean() < 2


def test_groups_are_connected_across_two_ways_to_group():
    near, own = ["a", "a", "c", "d", "e"], [None, "site", "site", "", ""]
    assert duplicates.connected(list("abcde"), near, own) == ["a", "a", "a", "d", "e"]
    assert duplicates.connected(list("edcba"), near[::-1], own[::-1]) == ["e", "d", "a", "a", "a"]


def test_no_images_have_no_groups():
    assert duplicates.group_near_duplicates([], np.empty(0, THUMBNAIL)) == []


def test_groups_above_the_limit_are_listed_the_largest_first():
    groups = ["b"] * 3 + ["a"] * 3 + ["c"] * 5 + list("defghijkl")
    assert duplicates.oversized_groups(groups, max_fraction=0.1) == [("c", 5), ("a", 3), ("b", 3)]


def test_a_single_image_is_never_oversized():
    assert duplicates.oversized_groups(["a", "b"], max_fraction=0.1) == []


def test_of_many_images_the_nearest_candidates_find_the_same_groups(monkeypatch):
    images = [solar_cell(seed) for seed in range(40)] + [photograph(seed) for seed in range(20)]
    images += [cv2.convertScaleAbs(image, alpha=0.9) for image in images[:5]] + [images[50][8:]]
    thumbnails, ids = np.stack([thumbnail(image) for image in images]), [f"{i:03}" for i in range(len(images))]
    groups = duplicates.group_near_duplicates(ids, thumbnails)
    assert len(set(groups)) == 60
    monkeypatch.setattr(candidates, "MAX_ALL_PAIRS", 0)
    assert duplicates.group_near_duplicates(ids, thumbnails) == groups


@pytest.mark.parametrize("kept", [1, 1 << 20])
def test_of_many_images_the_candidates_are_pairs_of_the_highest_cosine_of_either(monkeypatch, kept):
    monkeypatch.setattr(candidates, "NEAREST", 2)
    monkeypatch.setattr(candidates, "MIN_KEPT", kept)  # 1: pairs that have become too far are dropped again and again
    generator = np.random.default_rng(0)
    parts, count, one = candidates.windows(mirrored=False), 120, np.uint64(1)
    bits = generator.integers(0, 4, count).astype(np.uint64)  # few, so that most pairs are candidates
    directions = generator.integers(-127, 128, (len(parts), count, 63)).astype(np.int8)
    of_each = zip([bits, *(bits ^ (one << np.uint64(number)) for number in range(4))], directions, strict=True)
    hashed = [candidates.Hashes(own, np.full(count, ~np.uint64(0)), signs) for own, signs in of_each]
    found = np.hstack(list(candidates.find(parts, hashed)))
    cosines = (directions[0][found[0]].astype(int) * directions[found[2], found[1]]).sum(axis=1) / 127**2
    lowest = [sorted(cosines[(found[:2] == image).any(axis=0)])[-2] for image in range(count)]
    wanted = found[:, cosines >= np.minimum(*np.take(lowest, found[:2])) - 1e-6]
    assert 120 < wanted.shape[1] < found.shape[1] / 10
    np.testing.assert_array_equal(np.hstack(list(candidates.nearest(parts, hashed))), wanted)


def test_an_image_keeps_its_highest_cosines(monkeypatch):
    monkeypatch.setattr(candidates, "NEAREST", 3)
    generator = np.random.default_rng(0)
    best, seen = np.full((5, 3), -2, np.float32), [[] for _ in range(5)]
    for _ in range(4):
        images, cosines = generator.integers(0, 4, 12), generator.uniform(-1, 1, 12).astype(np.float32)
        candidates._keep_best(best, images, cosines)
        for image, cosine in zip(images, cosines, strict=True):
            seen[image].append(cosine)
    expected = [sorted([-2, -2, -2, *cosines])[-3:] for cosines in seen]
    np.testing.assert_array_equal(best, np.array(expected, np.float32))


def test_the_ends_of_two_groups_are_those_whose_hashes_differ_most():
    bits = np.array([0b0, 0b1, 0b11, 0b111111], np.uint64)
    hashes = candidates.Hashes(bits, np.full(4, 2**63 - 1, np.uint64))
    groups = duplicates._Groups(np.empty(0, THUMBNAIL), np.arange(4), hashes)
    assert groups._ends([0, 1], [2, 3]) == [(0, 3), (1, 3), (0, 2)]  # of (1, 2) they differ in one bit alone
