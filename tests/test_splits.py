"""Splits are stratified, keep groups whole, and move few photographs when few change."""

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
import yaml

import split as script
from thaw.core.errors import ThawError
from thaw.core.tables import SPLITS
from thaw.parameters.split import Split
from thaw.sources import folder
from thaw.sources.collection import collect
from thaw.splitting import listing, splits

ROOT = Path(__file__).parents[1]


def parameters(**changes) -> Split:
    defaults = yaml.safe_load((ROOT / "params.yaml").read_text())["split"]
    return Split(**defaults | changes)


def photographs(labels: str, groups: dict[int, str] | None = None, subsets: dict[int, str] | None = None):
    """A table with a photograph for each letter, which is its label and stratum."""
    ids = [f"photograph-{i:04d}" for i in range(len(labels))]
    return pl.DataFrame(
        {
            "image_id": ids,
            "label": list(labels),
            "stratum": list(labels),
            "group": [(groups or {}).get(i, image_id) for i, image_id in enumerate(ids)],
            "own_group": [(groups or {}).get(i, "") for i in range(len(ids))],
            "subset": [(subsets or {}).get(i, "") for i in range(len(ids))],
            "is_added": False,
            "weight": 1.0,
        }
    )


def draw(table: pl.DataFrame, **changes) -> dict[str, str]:
    """The split of each id."""
    return dict(zip(table["image_id"], splits.draw(table, parameters(**changes)), strict=True))


def moved(before: dict[str, str], after: dict[str, str]) -> int:
    return sum(before[image_id] != after[image_id] for image_id in before.keys() & after.keys())


def counts(table: pl.DataFrame, **changes) -> dict[str, dict[str, int]]:
    """The number of photographs of each label in each split."""
    numbers = {label: dict.fromkeys(SPLITS, 0) for label in table["label"]}
    for label, split in zip(table["label"], splits.draw(table, parameters(**changes)), strict=True):
        numbers[label][split] += 1
    return numbers


# Shares and strata


@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.25), (0.1, 0.1), (0.4, 0.4), (0.5, 0.3)])
def test_every_class_has_its_shares_to_the_photograph(validation, test):
    for label, count in (("a", 600), ("b", 200), ("c", 37)):
        numbers = counts(photographs("a" * 600 + "b" * 200 + "c" * 37), validation=validation, test=test)[label]
        assert abs(numbers["validation"] - validation * count) <= 1
        assert abs(numbers["test"] - test * count) <= 1
        assert sum(numbers.values()) == count


def test_every_stratum_of_a_class_has_its_shares():
    table = photographs("a" * 400 + "b" * 400).with_columns(
        stratum=pl.Series([f"{label}/{i % 4}" for i, label in enumerate("a" * 400 + "b" * 400)])
    )
    split = splits.draw(table, parameters())
    by_stratum = table.with_columns(split=split).group_by("stratum", "split").len()
    assert by_stratum.filter(split="test")["len"].to_list() == [25] * 8
    assert by_stratum.filter(split="validation")["len"].to_list() == [15] * 8


def test_the_splits_come_in_the_order_of_the_rows():
    table = photographs("ab" * 50)
    assert len(splits.draw(table, parameters())) == 100
    assert splits.draw(table, parameters()).null_count() == 0


@pytest.mark.parametrize("seed", range(8))
def test_a_group_larger_than_a_split_trains_and_the_others_are_split_as_usual(seed):
    table = photographs("a" * 100 + "b" * 100, dict.fromkeys(range(60), "burst"))
    drawn = draw(table, seed=seed)
    assert {drawn[image_id] for image_id in table["image_id"][:60]} == {"train"}
    assert counts(table, seed=seed)["a"] == {"train": 84, "validation": 6, "test": 10}


def test_groups_that_are_all_large_are_drawn_as_usual():
    table = photographs("a" * 100 + "b" * 100, {number: f"module{number // 20}" for number in range(100)})
    assert counts(table)["a"] == {"train": 60, "validation": 20, "test": 20}


# Stability


def test_the_same_seed_draws_the_same():
    assert draw(photographs("ab" * 200)) == draw(photographs("ab" * 200))


def test_the_order_of_the_rows_moves_none():
    table = photographs("ab" * 200, {i: f"group-{i // 5}" for i in range(400)})
    assert draw(table.sample(fraction=1, shuffle=True, seed=0)) == draw(table)
    assert draw(table.reverse()) == draw(table)


def test_another_seed_moves_many():
    table = photographs("ab" * 200)
    assert moved(draw(table), draw(table, seed=2)) > 150


@pytest.mark.parametrize("place", [0, 117, 399])
def test_one_photograph_more_or_less_moves_only_few(place):
    table = photographs("ab" * 200)
    without = pl.concat([table[:place], table[place + 1 :]])
    assert moved(draw(table), draw(without)) <= 2


def test_a_tenth_more_photographs_moves_only_a_small_share():
    table = photographs("ab" * 220)
    assert moved(draw(table), draw(table[:400])) < 0.06 * 400


def test_a_class_more_moves_none_of_the_others():
    table = photographs("ab" * 100 + "c" * 50)
    assert moved(draw(table), draw(table[:200])) == 0


def test_a_greater_test_share_takes_none_out_of_the_test_split():
    table = photographs("ab" * 200)
    small, great = draw(table, test=0.1), draw(table, test=0.3)
    assert {i for i, s in small.items() if s == "test"} < {i for i, s in great.items() if s == "test"}


def test_a_photograph_that_joins_a_group_moves_few_others():
    table = photographs("ab" * 200)
    joined = photographs("ab" * 200, {7: "photograph-0003"})
    assert moved(draw(table), draw(joined)) <= 4


# Groups


def test_no_group_stands_in_two_splits():
    table = photographs("ab" * 200, {i: f"group-{i // 7}" for i in range(400)})
    split = pl.DataFrame({"group": table["group"], "split": splits.draw(table, parameters())})
    assert split.group_by("group").n_unique()["split"].max() == 1


def test_shares_hold_by_photographs_where_groups_are_large():
    table = photographs("a" * 400, {i: f"group-{i // 20}" for i in range(400)})
    numbers = counts(table)["a"]
    assert abs(numbers["test"] - 100) <= 20
    assert abs(numbers["validation"] - 60) <= 20


def test_a_group_may_span_labels():
    table = photographs("ab" * 100, {0: "same", 1: "same", 2: "same", 3: "same"})
    drawn = draw(table)
    assert len({drawn[f"photograph-000{i}"] for i in range(4)}) == 1


def test_every_photograph_has_a_split_where_groups_span_strata():
    table = photographs("ab" * 200, {i: f"group-{i // 3}" for i in range(400)})
    assert splits.draw(table, parameters()).null_count() == 0


# Subsets of the source's own


def test_subsets_are_kept_to_the_photograph():
    kept = {i: SPLITS[i % 3] for i in range(60)}
    drawn = draw(photographs("abcd" * 15, subsets=kept))
    assert drawn == {f"photograph-{i:04d}": part for i, part in kept.items()}


def test_a_near_duplicate_across_the_subsets_of_the_source_is_left_out_of_training_and_none_is_moved():
    kept = {i: SPLITS[i % 3] for i in range(60)}
    table = photographs("abcd" * 15, {0: "same", 2: "same", 3: "two", 4: "two", 7: "three", 8: "three"}, kept)
    drawn = draw(table)
    expected = {f"photograph-{i:04d}": part for i, part in kept.items()}
    assert drawn == expected | {"photograph-0000": None, "photograph-0003": None}
    assert draw(table, duplicates_across="keep") == expected


def test_a_photograph_of_no_subset_is_left_out_where_its_near_duplicate_is_a_test_photograph():
    kept = dict.fromkeys(range(0, 400, 4), "test")
    drawn = draw(photographs("a" * 400, {0: "same", 1: "same"}, kept))
    assert drawn["photograph-0000"] == "test" and drawn["photograph-0001"] is None
    assert sum(split == "test" for split in drawn.values()) == 100


def test_a_class_that_is_left_out_of_training_is_named():
    kept = {i: SPLITS[i % 3] for i in range(60)} | {60: "train", 61: "test", 62: "validation"}
    table = photographs("a" * 60 + "bbb", {60: "same", 61: "same"}, kept)
    with pytest.raises(ThawError, match=r"'b' has no photograph left to train on: 1 .* split\.duplicates_across: keep"):
        draw(table)
    assert draw(table, duplicates_across="keep")["photograph-0060"] == "train"


def test_a_split_that_no_subset_names_is_drawn_from_training():
    kept = {i: "test" if i % 4 == 0 else "train" for i in range(400)}
    table = photographs("a" * 400, subsets=kept)
    drawn = draw(table)
    assert all((drawn[f"photograph-{i:04d}"] == "test") == (part == "test") for i, part in kept.items())
    assert abs(sum(split == "validation" for split in drawn.values()) - 0.15 * 300) <= 1


def test_photographs_of_no_subset_are_drawn_among_those_that_are_trained_on():
    kept = dict.fromkeys(range(0, 400, 4), "test") | dict.fromkeys(range(1, 400, 4), "validation")
    drawn = draw(photographs("a" * 400, subsets=kept))
    assert sum(split == "train" for split in drawn.values()) == 200


def test_subsets_that_name_training_alone_leave_the_rest_to_the_draw():
    table = photographs("ab" * 100)
    assert draw(table.with_columns(subset=pl.lit("train"))) == draw(table)


def test_what_is_marked_to_train_only_trains_where_others_may_be_in_any_split():
    marked = dict.fromkeys(range(0, 400, 2), "train")
    drawn = draw(photographs("a" * 400, {0: "same", 1: "same"}, marked))
    assert {drawn[f"photograph-{i:04d}"] for i in (*marked, 1)} == {"train"}
    assert abs(sum(split == "test" for split in drawn.values()) - 0.25 * 200) <= 1
    table = photographs("ab" * 200, subsets=marked)
    later = table.with_columns(is_added=pl.col("subset") == "")  # what was labelled since never has a subset
    assert draw(later) == draw(later.with_columns(subset=pl.lit("")))


def test_a_class_of_which_all_is_marked_to_train_is_named():
    with pytest.raises(ThawError, match=r"'a' has too few images to split: 30, .*; 30 are marked to train; at "):
        draw(photographs("a" * 30 + "b" * 30, subsets=dict.fromkeys(range(30), "train")))


# Classes too small


@pytest.mark.parametrize("labels", ["a" * 100 + "b", "a" * 100 + "bb", "a"])
def test_a_class_that_is_too_small_is_one_line_that_names_it(labels):
    with pytest.raises(ThawError) as caught:
        draw(photographs(labels))
    assert f"the class {labels[-1]!r} has too few images to split: {labels.count(labels[-1])}, " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.25), (0.05, 0.3), (0.1, 0.1), (0.3, 0.6), (0.01, 0.5)])
def test_the_number_of_images_that_the_error_names_is_enough(validation, test):
    with pytest.raises(ThawError) as caught:
        draw(photographs("a" * 200 + "b"), validation=validation, test=test)
    enough = int(str(caught.value).split("at least ")[1].split()[0])
    for seed in range(20):
        numbers = counts(photographs("a" * 200 + "b" * enough), validation=validation, test=test, seed=seed)
        assert min(numbers["b"].values()) >= 1


def test_folds_are_pointed_at_where_they_need_fewer_images():
    with pytest.raises(ThawError, match=r"nor are near-duplicates; split\.folds: 3 would do with what there is$"):
        draw(photographs("a" * 100 + "bbb"))
    with pytest.raises(ThawError, match=r"nor are near-duplicates$"):
        draw(photographs("a" * 100 + "bb"))


def test_only_folds_that_can_be_drawn_are_pointed_at():
    table = photographs("a" * 100 + "bbb").with_columns(weight=pl.when(pl.col("label") == "b").then(0.0).otherwise(1.0))
    with pytest.raises(ThawError, match=r"nor are near-duplicates$"):
        draw(table)


def test_only_the_splits_that_are_drawn_count_for_how_many_are_needed():
    tested = dict.fromkeys((*range(40), 100), "test")
    with pytest.raises(ThawError, match=r"at split\.validation 0\.15 a class needs at least 7 that share no group"):
        draw(photographs("a" * 100 + "bbb", subsets=tested), after="2024-05-01")
    with pytest.raises(ThawError, match=r"at split\.validation 0\.4 a class needs at least 3 that share no group"):
        draw(photographs("a" * 100 + "bb", subsets=tested), after="2024-05-01", validation=0.4)


def test_of_a_class_whose_rest_is_too_small_what_is_left_to_draw_from_is_said():
    tested = dict.fromkeys((*range(40), *range(100, 110)), "test")
    with pytest.raises(ThawError, match=r"needs at least 6 that share no group, .* and 2 are left to draw from"):
        draw(photographs("a" * 100 + "b" * 12, subsets=tested), after="2024-05-01", validation=0.2)


def test_groups_of_several_classes_are_named_as_the_reason():
    shared = {i: f"g{i % 7}" for i in range(100, 107)} | {i: f"g{i}" for i in range(7)}
    table = photographs("a" * 100 + "b" * 7, shared)
    for seed in range(30):
        try:
            draw(table, seed=seed)
        except ThawError as error:
            assert "the 7 groups of the class are not enough, since they hold other classes too" in str(error)
            return
    pytest.fail("every seed gave each split a photograph of b")


def test_a_class_in_one_group_is_too_small():
    table = photographs("a" * 100 + "b" * 50, dict.fromkeys(range(100, 145), "same"))
    with pytest.raises(ThawError, match=r"'b' has too few images .*; 45 are of one group \('same'\), which is never"):
        draw(table)
    whole = r"which is never divided, unless split\.group_duplicates is false"
    with pytest.raises(ThawError, match=rf"45 are of one group \(near-duplicates of photograph-0100\), {whole}"):
        draw(table.with_columns(own_group=pl.lit("")))


def test_a_class_that_a_kept_subset_lacks_is_named():
    kept = {i: SPLITS[i % 3] for i in range(60)} | dict.fromkeys(range(60, 90), "train")
    with pytest.raises(ThawError, match=r"'b' has no image in the source's own .*test.*split\.keep_subsets: false"):
        draw(photographs("a" * 60 + "b" * 30, subsets=kept))


def test_subsets_without_any_to_train_on_are_named():
    kept = {i: ("validation", "validation", "test", "test")[i % 4] for i in range(60)}
    with pytest.raises(ThawError, match=r"'a' has no image in the source's own train; with split\.keep_subsets: false"):
        draw(photographs("ab" * 30, subsets=kept))


# The stage


@pytest.fixture
def run_stage(tmp_path, monkeypatch):
    """A function that splits photographs of two classes in subsets of their own, one of them twice."""
    generator = np.random.default_rng(0)
    for subset, count in (("train", 12), ("test", 4)):
        for label in ("cat", "dog"):
            (tmp_path / "mine" / subset / label).mkdir(parents=True)
            for number in range(count):
                pixels = cv2.resize(generator.integers(0, 255, (6, 6, 3), np.uint8), (64, 64))
                cv2.imwrite(str(tmp_path / "mine" / subset / label / f"{number}.png"), pixels)
    twin = tmp_path / "mine/train/cat/0.png"
    (tmp_path / "mine/test/cat/twin.png").write_bytes(twin.read_bytes())
    (tmp_path / "data").mkdir()
    collect(folder.find(folder.Folder(path=str(tmp_path / "mine"))), tmp_path / "data/raw")
    monkeypatch.chdir(tmp_path)

    def run_stage(**changes) -> pl.DataFrame:
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        values["split"] |= changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        script.main()
        table = pl.read_csv("data/split.csv")
        return table.join(pl.read_csv("data/raw/images.csv").select("image_id", "meta_subset"), on="image_id")

    return run_stage


def test_that_many_photographs_are_compared_with_their_nearest_alone_is_said(run_stage, capsys, monkeypatch):
    nearest_alone = "each was compared with the 16 most similar by their hashes"
    groups = run_stage(keep_subsets=False)["group"]
    assert nearest_alone not in capsys.readouterr().out
    monkeypatch.setattr(script.candidates, "MAX_ALL_PAIRS", 0)
    assert run_stage(keep_subsets=False)["group"].equals(groups)
    assert nearest_alone in capsys.readouterr().out


def test_near_duplicates_share_a_group_only_with_group_duplicates(run_stage, capsys):
    drawn = {"keep_subsets": False}
    assert run_stage(**drawn)["group"].n_unique() == 32
    assert "near-duplicates of others: 1 (see" in capsys.readouterr().out
    assert run_stage(group_duplicates=False, **drawn)["group"].n_unique() == 33
    assert "near-duplicates were not looked for" in capsys.readouterr().out


def test_the_twin_of_a_test_photograph_is_left_out_listed_and_said(run_stage, capsys):
    table = run_stage()
    assert table.filter(meta_subset="test").select("split").unique().to_series().to_list() == ["test"]
    assert len(table) == 32 and (table["split"] == "test").sum() == 9
    listed = pl.read_csv("data/duplicates.csv")
    assert listed.columns == ["group", "image_id", "path", "split", "action", "alike"]
    assert listed["alike"].equals(listed["group"])
    assert set(listed.select("split", "action").rows()) == {("test", "kept"), (None, "left out")}
    assert listed["group"].n_unique() == 1 and Path("data/raw", listed["path"][0]).exists()
    assert "; left out of training: 1, near-duplicates of" in capsys.readouterr().out
    assert cv2.imread("reports/duplicates.jpg").shape[1] > 2 * 112


def test_the_twin_of_a_test_photograph_trains_only_where_that_is_asked(run_stage, capsys):
    table = run_stage(duplicates_across="keep")
    assert len(table) == 33 and (table["split"] == "test").sum() == 9
    assert set(pl.read_csv("data/duplicates.csv")["action"]) == {"kept"}
    assert "; trained on all the same: 1, near-duplicates of" in capsys.readouterr().out


def test_photographs_of_one_group_of_the_source_are_never_divided(run_stage):
    raw = Path("data/raw/images.csv")
    images = pl.read_csv(raw, schema_overrides={"weight": pl.Float64})
    image_ids = images.filter(pl.col("meta_subset") == "train")["image_id"].to_list()
    site = pl.when(pl.col("image_id").is_in(image_ids[:8])).then(pl.lit("site")).otherwise(pl.lit(""))
    images.with_columns(meta_group=site).write_csv(raw)
    for group_duplicates in (True, False):
        table = run_stage(group_duplicates=group_duplicates, keep_subsets=False)
        grouped = table.filter(pl.col("image_id").is_in(image_ids[:8]))
        assert grouped["split"].n_unique() == grouped["group"].n_unique() == 1
    listed = pl.read_csv("data/duplicates.csv")
    assert len(listed) == listed["alike"].n_unique() == 8 and listed["group"].n_unique() == 1


def test_without_near_duplicates_the_list_is_empty_and_the_sheet_blank(run_stage):
    run_stage(group_duplicates=False)
    assert pl.read_csv("data/duplicates.csv").is_empty()
    assert cv2.imread("reports/duplicates.jpg").min() > 250


def test_photographs_of_validation_that_are_near_duplicates_of_test_ones_stay_and_are_counted():
    kept = {i: SPLITS[i % 3] for i in range(60)}
    table = photographs("abcd" * 15, {1: "same", 2: "same"}, kept)
    table = table.with_columns(split=splits.draw(table, parameters()))
    assert listing.across_subsets(table) == {"left_out": 0, "training": 0, "validation": 1}


def test_the_subsets_of_a_source_are_kept_only_with_keep_subsets(run_stage):
    kept, drawn = run_stage(group_duplicates=False), run_stage(group_duplicates=False, keep_subsets=False)
    assert set(kept.filter(meta_subset="test")["split"]) == {"test"}
    assert len(set(drawn.filter(meta_subset="test")["split"])) > 1


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([0, 0, 1, 1, 1, 1], "all training photographs of the class 'a' have the weight 0"),
        ([1, 1, 1, 1, 0, 1], "all photographs of test have the weight 0"),
        ([1, 1, 1, 1, 1, 0], "all photographs of validation have the weight 0"),
    ],
)
def test_weights_that_leave_nothing_to_learn_or_measure_are_refused_before_the_work(weights, words):
    splits_ = ["train"] * 4 + ["test", "validation"]
    table = pl.DataFrame({"label": list("aabbab"), "split": splits_, "weight": [float(weight) for weight in weights]})
    with pytest.raises(ThawError, match=words):
        splits.check_weights(table)
    splits.check_weights(table.with_columns(weight=pl.lit(0.5)))
