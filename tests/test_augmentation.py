"""Each row of the plan is drawn on its own, so other changes leave it as it is, and is applied to the pixel."""

import cv2
import numpy as np
import polars as pl
import pytest

from thaw.core import tables
from thaw.images import augmentation, augmentation_plan, decoding
from thaw.parameters.augment import Augment

SIZE = 32
IDS = [f"photograph-{i}" for i in range(200)]
IDENTITY = {
    "flip_horizontal": 0, "flip_vertical": 0, "quarter_turns": 0, "rotation": 0.0, "zoom": 1.0, "shear": 0.0,
    "translation_x": 0.0, "translation_y": 0.0, "crop": 1.0, "crop_x": 0.0, "crop_y": 0.0,
    "brightness": 0.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0,
}  # fmt: skip
NOTHING = {
    "preset": "any_way_up", "copies": 3, "seed": 1, "flip_horizontal": False, "flip_vertical": False,
    "quarter_turns": False, "rotation": 0, "zoom": 0, "shear": 0, "translation": 0, "crop": 1, "brightness": 0,
    "contrast": 0, "saturation": 0, "hue": 0,
}  # fmt: skip
EVERYTHING = {
    "flip_horizontal": True, "flip_vertical": True, "quarter_turns": True, "rotation": 20.0, "zoom": 0.3, "shear": 8.0,
    "translation": 0.1, "crop": 0.5, "brightness": 0.2, "contrast": 0.4, "saturation": 0.6, "hue": 30.0,
}  # fmt: skip


def parameters(**changes) -> Augment:
    return Augment(**(NOTHING | changes))


def of_preset(preset: str, **changes) -> Augment:
    """The section with a preset whose values nothing overrides but the changes."""
    return Augment(**dict.fromkeys(NOTHING) | {"preset": preset, "copies": 3, "seed": 1} | changes)


def noise(height: int = SIZE, width: int = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def view(pixels: np.ndarray, size: int = SIZE, **row) -> np.ndarray:
    return augmentation.apply(decoding.fit(pixels, size, "crop"), size, IDENTITY | row)


def grey(height: int = SIZE, width: int = SIZE) -> np.ndarray:
    """(height, width, 3) uint8 of one channel, every level of it among them."""
    levels = np.random.default_rng(0).permutation(height * width).reshape(height, width, 1).astype(np.uint8)
    return np.broadcast_to(levels, (height, width, 3))


def colour(color: tuple[int, int, int], **row) -> list[int]:
    return view(np.full((SIZE, SIZE, 3), color, np.uint8), **row)[3, 5].tolist()


def test_one_grey_channel_gives_the_same_view_as_three_equal_channels():
    plan = augmentation_plan.draw(IDS, parameters(**EVERYTHING | {"hue": 0, "saturation": 0}))
    for row in plan.to_dicts()[::7]:
        one_channel, three_channels = (augmentation.apply(pixels, SIZE, row) for pixels in (grey(), grey().copy()))
        np.testing.assert_array_equal(one_channel, three_channels)


def test_hue_and_saturation_leave_a_grey_photograph_grey():
    np.testing.assert_array_equal(view(grey(), hue=30.0, saturation=0.5), grey())


# The plan


def test_every_column_of_the_plan_is_in_order():
    plan = augmentation_plan.draw(IDS[:2], parameters())
    assert plan.columns == [*tables.ROWS, *augmentation_plan.COLUMNS]
    assert set(augmentation_plan.COLUMNS) == set(IDENTITY)


def test_every_image_has_its_augmented_copies_in_order():
    plan = augmentation_plan.draw(["b", "a"], parameters(copies=2, hue=1))
    assert list(plan.select("image_id", "copy").iter_rows()) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]


def test_without_any_range_no_copies_are_planned_for_each_would_be_the_plain_view():
    assert augmentation_plan.draw(IDS[:20], parameters()).is_empty()
    almost = augmentation_plan.draw(IDS[:20], parameters(hue=1e-9)).to_dicts()
    assert len(almost) == 60
    for row in almost:
        np.testing.assert_array_equal(view(noise(), **row), noise())


@pytest.mark.parametrize(
    ("column", "low", "high"),
    [
        ("rotation", -20, 20), ("zoom", 0.7, 1.3), ("shear", -8, 8), ("translation_x", -0.1, 0.1),
        ("translation_y", -0.1, 0.1), ("crop", 0.5, 1), ("crop_x", -1, 1), ("crop_y", -1, 1),
        ("brightness", -0.2, 0.2), ("contrast", 0.6, 1.4), ("saturation", 0.4, 1.6), ("hue", -30, 30),
    ],
)  # fmt: skip
def test_values_fill_their_range_and_do_not_leave_it(column, low, high):
    values = augmentation_plan.draw(IDS, parameters(**EVERYTHING))[column].to_numpy()
    margin = 0.05 * (high - low)
    assert low <= values.min() < low + margin
    assert high - margin < values.max() <= high
    assert abs(values.mean() - (low + high) / 2) < margin


def test_half_of_the_augmented_views_are_flipped():
    plan = augmentation_plan.draw(IDS, parameters(**EVERYTHING))
    for column in ("flip_horizontal", "flip_vertical"):
        assert set(plan[column]) == {0, 1}
        assert 0.4 < plan[column].mean() < 0.6


def test_every_quarter_turn_is_as_likely():
    counts = augmentation_plan.draw(IDS, parameters(**EVERYTHING))["quarter_turns"].value_counts().sort("quarter_turns")
    assert counts["quarter_turns"].to_list() == [0, 1, 2, 3]
    assert counts["count"].min() > 0.18 * 600


def test_columns_are_drawn_independently_of_one_another():
    plan = augmentation_plan.draw(IDS, parameters(**EVERYTHING)).select(augmentation_plan.COLUMNS)
    assert np.abs(np.corrcoef(plan.to_numpy().T) - np.eye(len(augmentation_plan.COLUMNS))).max() < 0.2


def test_a_row_does_not_depend_on_the_other_images():
    among_all = augmentation_plan.draw(IDS, parameters(**EVERYTHING)).filter(image_id=IDS[7])
    assert augmentation_plan.draw([IDS[7]], parameters(**EVERYTHING)).equals(among_all)


def test_the_order_of_the_images_changes_nothing():
    plan = augmentation_plan.draw(IDS, parameters(**EVERYTHING))
    assert augmentation_plan.draw(reversed(IDS), parameters(**EVERYTHING)).equals(plan)


def test_fewer_copies_are_the_first_of_more():
    plan = augmentation_plan.draw(IDS, parameters(**EVERYTHING, copies=3))
    assert augmentation_plan.draw(IDS, parameters(**EVERYTHING, copies=2)).equals(plan.filter(pl.col("copy") <= 2))


def test_another_seed_draws_other_rows():
    plans = [augmentation_plan.draw(IDS, parameters(**EVERYTHING, seed=seed)) for seed in (1, 2)]
    assert (plans[0]["rotation"] == plans[1]["rotation"]).mean() < 0.01


def test_the_copies_of_an_image_differ():
    plan = augmentation_plan.draw(IDS, parameters(**EVERYTHING))
    assert plan["rotation"].n_unique() > 0.99 * len(plan)


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_parameter_changes_its_own_columns_alone(name):
    off = parameters(**EVERYTHING | {name: NOTHING[name]})
    before, after = (augmentation_plan.draw(IDS[:20], p) for p in (parameters(**EVERYTHING), off))
    changed = [column for column in before.columns if not before[column].equals(after[column])]
    assert changed == (["translation_x", "translation_y"] if name == "translation" else [name])


# Presets


def test_any_way_up_draws_what_the_solar_cells_always_had():
    explicit = parameters(
        flip_horizontal=True, flip_vertical=True, quarter_turns=True, rotation=5, zoom=0.05, translation=0.03,
        brightness=0.05, contrast=0.1,
    )  # fmt: skip
    plan = augmentation_plan.draw(IDS, of_preset("any_way_up"))
    assert plan.equals(augmentation_plan.draw(IDS, explicit))
    assert set(plan["quarter_turns"]) == {0, 1, 2, 3}


def test_upright_leaves_top_and_bottom_where_they_are():
    plan = augmentation_plan.draw(IDS, of_preset("upright"))
    assert set(plan["flip_horizontal"]) == {0, 1}
    assert set(plan["flip_vertical"]) == set(plan["quarter_turns"]) == {0}
    assert plan["rotation"].abs().max() <= 15


def test_none_has_no_copies_unless_a_value_is_set():
    assert augmentation_plan.draw(IDS, of_preset("none")).is_empty()
    plan = augmentation_plan.draw(IDS, of_preset("none", rotation=5))
    assert plan.equals(augmentation_plan.draw(IDS, parameters(rotation=5)).with_columns(preset=pl.lit("none")))


@pytest.mark.parametrize("preset", ["upright", "any_way_up", "none"])
def test_a_value_that_is_set_overrides_that_of_the_preset(preset):
    (candidate,) = of_preset(preset, hue=7, flip_horizontal=False).candidates
    assert (candidate.hue, candidate.flip_horizontal) == (7, False)
    assert None not in candidate.model_dump().values()


def test_auto_plans_the_copies_of_each_candidate_as_the_candidate_plans_them_alone():
    plan = augmentation_plan.draw(IDS, of_preset("auto"))
    assert plan["copy"].to_list() == [1, 2, 3, 4, 5, 6] * len(IDS)
    alone = [augmentation_plan.draw(IDS, of_preset(preset)) for preset in ("upright", "any_way_up")]
    for preset, expected in zip(("upright", "any_way_up"), alone, strict=True):
        assert plan.filter(preset=preset).drop("copy").equals(expected.drop("copy"))


def test_auto_without_copies_for_upright_is_refused_for_nothing_could_be_compared():
    changes = dict.fromkeys(["rotation", "zoom", "translation", "brightness", "contrast", "saturation", "hue"], 0)
    with pytest.raises(ValueError, match="with these values upright has none: name a preset"):
        Augment(**of_preset("auto").model_dump() | changes | {"flip_horizontal": False})


def test_candidates_that_values_make_equal_are_one():
    """As recipes do, which set single values: nothing is left to choose."""
    changes = EVERYTHING | {"flip_vertical": False, "quarter_turns": False}
    (candidate,) = of_preset("auto", **changes).candidates
    assert candidate.preset == "upright"
    assert augmentation_plan.draw(IDS, of_preset("auto", **changes))["copy"].max() == 3


def test_a_plan_reads_back_as_it_was_drawn(tmp_path):
    plan = augmentation_plan.draw(IDS, parameters(**EVERYTHING))
    tables.write(plan, tmp_path / "plan.csv")
    assert tables.read(tmp_path / "plan.csv", tables.ROWS).equals(plan)


@pytest.mark.parametrize("copies", [0, 2])
def test_an_empty_plan_has_the_columns_of_any_other_and_reads_back(tmp_path, copies):
    plan = augmentation_plan.draw(IDS if copies == 0 else [], parameters(copies=copies, hue=1))
    assert plan.schema == augmentation_plan.draw(["a"], parameters()).schema
    tables.write(plan, tmp_path / "plan.csv")
    read = tables.read(tmp_path / "plan.csv", tables.ROWS)
    assert len(read) == 0
    assert read.columns == plan.columns


# The warp


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("shape", [(64, 64), (50, 75), (75, 50), (33, 32), (20, 21)])
def test_a_row_that_changes_nothing_is_the_plain_view(shape, size):
    canvas = decoding.fit(noise(*shape), size, "crop")
    np.testing.assert_array_equal(augmentation.apply(canvas, size, IDENTITY), decoding.centre_crop(canvas, size))


@pytest.mark.parametrize("size", [32, 33])
def test_flips_are_numpys(size):
    pixels = noise(size, size)
    np.testing.assert_array_equal(view(pixels, size, flip_horizontal=1), pixels[:, ::-1])
    np.testing.assert_array_equal(view(pixels, size, flip_vertical=1), pixels[::-1])


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_numpys(turns, size):
    pixels = noise(size, size)
    np.testing.assert_array_equal(view(pixels, size, quarter_turns=turns), np.rot90(pixels, turns))


def test_a_rotation_by_ninety_degrees_is_a_quarter_turn():
    np.testing.assert_array_equal(view(noise(), rotation=90.0), np.rot90(noise()))


def test_rotation_comes_before_flips():
    rotated = np.rot90(noise())
    np.testing.assert_array_equal(view(noise(), quarter_turns=1, flip_horizontal=1), rotated[:, ::-1])
    np.testing.assert_array_equal(view(noise(), quarter_turns=1, flip_vertical=1), rotated[::-1])


@pytest.mark.parametrize(("right", "down"), [(3, 0), (0, 5), (-4, 2), (0, -7)])
def test_a_translation_by_whole_pixels_shifts_to_the_right_and_downwards(right, down):
    shifted = view(noise(), translation_x=right / SIZE, translation_y=down / SIZE)
    inner = np.s_[8:-8, 8:-8]
    np.testing.assert_array_equal(shifted[inner], np.roll(noise(), (down, right), (0, 1))[inner])


def test_a_shifted_view_shows_what_lies_beyond_the_plain_one():
    pixels = noise(SIZE, 3 * SIZE)
    np.testing.assert_array_equal(view(pixels, translation_x=0.5), pixels[:, SIZE // 2 : 3 * SIZE // 2])


def test_a_zoom_magnifies_the_middle():
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[8:24, 8:24] = 255
    assert (view(pixels, zoom=2.5) == 255).all()
    assert (view(pixels, zoom=0.5)[8:24, 8:24] == 255).mean() == 0.25


@pytest.mark.parametrize(("x", "y"), [(-1, -1), (1, -1), (-1, 1), (1, 1)])
def test_a_crop_of_a_quarter_of_the_area_shows_the_quarter_it_names(x, y):
    rows, columns = (np.s_[:16] if y < 0 else np.s_[16:]), (np.s_[:16] if x < 0 else np.s_[16:])
    expected = cv2.resize(noise()[rows, columns], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    cropped = view(noise(), crop=0.25, crop_x=x, crop_y=y)
    np.testing.assert_allclose(cropped[2:-2, 2:-2].astype(int), expected[2:-2, 2:-2], atol=2)


def test_a_shear_moves_the_top_against_the_bottom_and_leaves_the_middle():
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[:, 15:17] = 255
    sheared = view(pixels, shear=20.0)[:, :, 0]
    top, middle, bottom = (sheared[row].argmax() for row in (2, 16, 29))
    assert abs(middle - 15.5) <= 1
    assert abs((top - bottom) / 27) == pytest.approx(np.tan(np.radians(20)), abs=0.1)


@pytest.mark.parametrize(
    "row",
    [
        {"rotation": 45.0}, {"rotation": -170.0}, {"zoom": 0.05}, {"translation_x": 0.99, "translation_y": -0.99},
        {"shear": 59.0}, {"rotation": 30.0, "zoom": 0.5, "shear": 20.0, "translation_x": 0.5, "flip_horizontal": 1},
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(64, 64), (64, 200), (5, 5000)])
def test_no_border_shows(row, shape):
    assert (view(np.full((*shape, 3), 255, np.uint8), **row) == 255).all()


def test_what_lies_outside_is_the_reflection_of_what_lies_inside():
    shifted = view(noise(), translation_x=0.25)
    np.testing.assert_array_equal(shifted[:, :8], noise()[:, 8:0:-1])


def test_a_view_does_not_change_its_canvas():
    canvas = noise()
    view(canvas, rotation=10.0, brightness=0.2)
    np.testing.assert_array_equal(canvas, noise())


def test_a_row_gives_the_same_view_each_time():
    row = augmentation_plan.draw(["a"], parameters(**EVERYTHING)).to_dicts()[0]
    assert view(noise(100, 150), **row).tobytes() == view(noise(100, 150), **row).tobytes()


# The colour transform, against pixels computed by hand


def test_brightness_adds_a_share_of_the_full_range():
    assert colour((10, 100, 250), brightness=0.2) == [61, 151, 255]
    assert colour((10, 100, 250), brightness=-0.2) == [0, 49, 199]


def test_contrast_is_a_factor_around_mid_grey():
    assert colour((27, 127, 228), contrast=0.5) == [77, 127, 178]
    assert colour((107, 128, 148), contrast=2.0) == [86, 128, 168]


def test_no_saturation_is_the_grey_of_the_same_luma():
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    np.testing.assert_allclose(colour((200, 100, 50), saturation=0.0), [luma] * 3, atol=1)


def test_saturation_is_a_factor_on_the_distance_from_grey():
    luma = 0.299 * 120 + 0.587 * 100 + 0.114 * 80
    expected = [luma + 1.5 * (channel - luma) for channel in (120, 100, 80)]
    np.testing.assert_allclose(colour((120, 100, 80), saturation=1.5), expected, atol=1)


def test_grey_has_neither_saturation_nor_hue():
    assert colour((90, 90, 90), saturation=1.9, hue=120.0) == [90, 90, 90]


def test_hue_by_180_degrees_is_the_complement_of_the_same_luma():
    luma = 0.299 * 120 + 0.587 * 100 + 0.114 * 80
    expected = [2 * luma - channel for channel in (120, 100, 80)]
    np.testing.assert_allclose(colour((120, 100, 80), hue=180.0), expected, atol=1)


def test_hue_forth_and_back_is_the_first_colour():
    changed = colour((120, 100, 80), hue=90.0)
    assert changed != [120, 100, 80]
    np.testing.assert_allclose(colour(tuple(changed), hue=-90.0), [120, 100, 80], atol=2)


def test_contrast_comes_before_brightness():
    assert colour((227, 127, 27), contrast=0.5, brightness=0.2) == [228, 178, 128]


def test_rotation_comes_before_shear():
    both = view(noise(), quarter_turns=1, shear=20)
    np.testing.assert_array_equal(both[8:-8, 8:-8], view(np.rot90(noise()), shear=20)[8:-8, 8:-8])
