"""Folds are stratified, keep groups whole, and move few photographs when few change; groups and times of one's own."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from conftest import ROOT
from PIL import ExifTags, Image

import result
import split as script
from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.core.store import Photographs
from thaw.features.examples import Examples
from thaw.parameters.split import Split
from thaw.report import health
from thaw.report.collect import DUPLICATES
from thaw.sources import folder
from thaw.sources.collection import collect
from thaw.splitting import folds, own_groups, times

DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["split"]


def parameters(**changes) -> Split:
    return Split(**DEFAULTS | {"folds": 5} | changes)


def photographs(labels: str, groups: dict[int, str] | None = None, own: dict[int, str] | None = None) -> pl.DataFrame:
    """A table with a photograph for each letter, which is its label and stratum."""
    ids = [f"photograph-{i:04d}" for i in range(len(labels))]
    return pl.DataFrame(
        {
            "image_id": ids,
            "label": list(labels),
            "stratum": list(labels),
            "weight": [1.0] * len(ids),
            "group": [(groups or {}).get(i, image_id) for i, image_id in enumerate(ids)],
            "own_group": [(own or groups or {}).get(i, "") for i in range(len(ids))],
            "subset": "",
            "is_added": False,
        },
        schema_overrides={"subset": pl.String},
    )


def draw(table: pl.DataFrame, **changes) -> pl.DataFrame:
    """The folds of the photographs, as the stage draws them."""
    params = parameters(**changes)
    return folds.draw(table, folds.choose(table, params).count, params)


def by_id(table: pl.DataFrame, **changes) -> dict[str, int]:
    return dict(zip(table["image_id"], draw(table, **changes)["fold"], strict=True))


def moved(before: dict[str, int], after: dict[str, int]) -> int:
    return sum(before[image_id] != after[image_id] for image_id in before.keys() & after.keys())


def as_examples(table: pl.DataFrame, drawn: pl.DataFrame) -> Examples:
    labels = table["label"].rank("dense").to_numpy().astype(int) - 1
    return Examples(
        image_ids=table["image_id"].to_numpy(),
        splits=np.full(len(table), "train"),
        views=np.arange(len(table))[:, None],
        labels=labels,
        weights=table["weight"].to_numpy(),
        groups=table["group"].to_numpy(),
        folds=drawn.to_numpy(),
    )


# What the rounds train and measure


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_groups_no_round_trains_on_what_it_measures(seed):
    """Random tables of patients with photographs of several classes: a patient is in one fold alone."""
    generator = np.random.default_rng(seed)
    count, classes = int(generator.integers(60, 400)), "abcdef"[: generator.integers(2, 7)]
    patients = generator.integers(0, int(generator.integers(25, count)), count)
    table = photographs("".join(generator.choice(list(classes), count)), {i: f"p{p}" for i, p in enumerate(patients)})
    number = int(generator.integers(3, 9))
    drawn = draw(table, folds=number, repeats=2, seed=seed)
    assert drawn.columns == ["fold", "fold_2"]
    images = as_examples(table, drawn)
    for repeat in range(2):
        tested = np.zeros(count, int)
        for part in images.rounds(repeat):
            groups = {name: set(part.split(name).groups) for name in tables.SPLITS}
            assert not groups["train"] & groups["test"] and not groups["validation"] & groups["test"]
            assert not groups["train"] & groups["validation"]
            assert set(part.split("train").labels) == set(images.labels)
            assert all(len(part.split(name)) for name in tables.SPLITS)
            tested += part.splits == "test"
        assert (tested == 1).all()


# Balance


@pytest.mark.parametrize("number", [3, 5, 10])
def test_every_class_has_the_same_number_in_each_fold_to_the_photograph(number):
    table = photographs("a" * 303 + "b" * 100 + "c" * 37)
    counts = table.select("label", fold=draw(table, folds=number)["fold"]).group_by("label", "fold").len()
    assert len(counts) == 3 * number
    spread = counts.group_by("label").agg(pl.max("len") - pl.min("len"))
    assert spread["len"].max() <= 1


def test_many_small_classes_do_not_fill_the_same_folds():
    table = photographs("".join(chr(0x4E00 + i % 100) for i in range(700)))
    sizes = draw(table)["fold"].value_counts()["count"]
    assert sizes.min() > 125 and sizes.max() < 155  # 140 on average; were all cut alike, 100 and 200


def test_folds_hold_the_strata_of_a_class_alike():
    strata = [f"{label}/{i % 4}" for i, label in enumerate("a" * 400 + "b" * 400)]
    table = photographs("a" * 400 + "b" * 400).with_columns(stratum=pl.Series(strata))
    by_stratum = table.select("stratum", fold=draw(table)["fold"]).group_by("stratum", "fold").len()
    assert by_stratum["len"].to_list() == [20] * 40


def test_strata_of_few_photographs_are_drawn_together_so_that_the_class_is_in_every_fold():
    strata = [f"b/{i}" for i in range(6)]
    table = photographs("a" * 100 + "b" * 6).with_columns(stratum=pl.Series(["a"] * 100 + strata))
    for seed in range(10):
        assert draw(table, seed=seed)["fold"].tail(6).n_unique() == 5


@pytest.mark.parametrize("seed", range(8))
def test_a_group_larger_than_a_fold_has_one_of_its_own_and_the_others_are_divided_as_usual(seed):
    table = photographs("a" * 100 + "b" * 100, dict.fromkeys(range(60), "burst"))
    drawn = draw(table, seed=seed)["fold"]
    assert drawn.head(60).n_unique() == 1
    assert sorted(drawn[60:100].value_counts()["count"]) == [10] * 4 and drawn[0] not in drawn[60:100]
    (note,) = folds.notes(table, drawn)
    assert note.startswith("1 group of more photographs than a fold should have, the largest of 60: ")


def test_patients_with_photographs_of_both_classes_are_divided_alike():
    table = photographs("ab" * 300, {i: f"patient-{i // 12}" for i in range(600)})
    assert draw(table)["fold"].value_counts()["count"].to_list() == [120] * 5


def test_repeats_are_drawn_apart_and_the_first_is_that_without_repeats():
    table = photographs("ab" * 100)
    three = draw(table, repeats=3)
    assert three.columns == ["fold", "fold_2", "fold_3"]
    assert three["fold"].equals(draw(table)["fold"])
    assert min((three["fold"] != three["fold_2"]).sum(), (three["fold_2"] != three["fold_3"]).sum()) > 100


# Stability


def test_the_order_of_the_rows_moves_none():
    table = photographs("ab" * 200, {i: f"group-{i // 5}" for i in range(400)})
    assert by_id(table.sample(fraction=1, shuffle=True, seed=0)) == by_id(table) == by_id(table.reverse())


def test_another_seed_moves_many():
    table = photographs("ab" * 200)
    assert moved(by_id(table), by_id(table, seed=2)) > 200


@pytest.mark.parametrize("place", [0, 117, 399])
def test_one_photograph_more_or_less_moves_only_few(place):
    table = photographs("ab" * 200)
    assert moved(by_id(table), by_id(pl.concat([table[:place], table[place + 1 :]]))) <= 5


def test_a_hundredth_more_photographs_moves_about_as_many():
    table = photographs("ab" * 500)
    changes = [moved(by_id(table, seed=seed), by_id(table[:990], seed=seed)) for seed in range(5)]
    assert 0 < np.mean(changes) < 12


def test_a_class_more_moves_none_of_the_others():
    table = photographs("ab" * 100 + "c" * 50)
    assert moved(by_id(table), by_id(table[:200])) == 0


# How many folds


@pytest.mark.parametrize(
    ("labels", "expected", "why"),
    [
        ("a" * 70 + "b" * 55, 5, "split.folds: auto, for fewer than 1,000 photographs"),
        ("a" * 70 + "b" * 4, 4, "4 instead of 5, since the class 'b' has 4 groups"),
        ("a" * 70 + "b" * 3, 3, "3 instead of 5, since the class 'b' has 3 groups"),
        ("a" * 600 + "b" * 400, None, "one split from 1,000 photographs on"),
    ],
)
def test_auto_takes_folds_for_few_photographs(labels, expected, why):
    choice = folds.choose(photographs(labels), parameters(folds="auto"))
    assert choice.count == expected and why in choice.why


def test_auto_takes_a_split_that_is_there_or_one_split_where_a_group_is_most_of_the_data():
    table = photographs("ab" * 50)
    own = table.with_columns(subset=pl.lit("test"))
    assert folds.choose(own, parameters(folds="auto")) == (
        None,
        "split.folds: auto keeps the split that was given with the photographs",
    )
    marked = table.with_columns(subset=pl.Series(["train", ""] * 50))  # the others may be tested, these may not
    assert folds.choose(marked, parameters(folds="auto")).count is None
    with pytest.raises(
        ThawError, match=r"^split\.folds: 5 and photographs that are marked to train exclude one another"
    ):
        folds.choose(marked, parameters(folds=5))
    one_group = photographs("ab" * 50, dict.fromkeys(range(90), "site"))
    choice = folds.choose(one_group, parameters(folds="auto"))
    assert choice == (
        None,
        "split.folds: auto takes one split, since 90% of the photographs are of one group ('site')",
    )


def test_without_folds_nothing_is_said():
    assert folds.choose(photographs("ab"), parameters(folds=None)) == (None, "")


REFUSED = {
    "more folds than a class has photographs": (
        photographs("a" * 50 + "b" * 7), {"folds": 10},
        "the class 'b' has 7 photographs: too few for 10 folds; set split.folds: 7, or add photographs of it",
    ),
    "more folds than a class has groups": (
        photographs("a" * 50 + "b" * 20, {50 + i: f"g{i // 5}" for i in range(20)}), {},
        "the class 'b' has 20 photographs in 4 groups that cannot be divided: too few for 5 folds; set split.folds: 4",
    ),
    "near-duplicates in a class": (
        photographs("a" * 50 + "b" * 6, dict.fromkeys(range(50, 56), "same")).with_columns(own_group=pl.lit("")),
        {"folds": "auto"}, "in 1 group that cannot be divided (near-duplicates are one, unless split.group_duplicates ",
    ),
    "a class of two": (
        photographs("a" * 50 + "bb"), {"folds": "auto"},
        "the class 'b' has 2 photographs: too few for 3 folds; 3 or more are needed, 5 are better",
    ),
    "one group with 90 % of the data": (
        photographs("ab" * 50, dict.fromkeys(range(90), "site")), {},
        "90% of the photographs are of one group ('site'), which is never divided",
    ),
    "groups without a group": (
        photographs("ab" * 50, {i: f"s{i % 5}" for i in range(90)}), {"folds": "groups"},
        "10 photographs are in no group",
    ),
    "two groups": (
        photographs("ab" * 50, {i: f"s{i % 2}" for i in range(100)}), {"folds": "groups"}, "needs 3 groups or more",
    ),
    "many groups": (
        photographs("ab" * 50, {i: f"s{i % 25}" for i in range(100)}), {"folds": "groups"},
        "would train 25 times, once for each group; up to 20 are possible: set split.folds: 5",
    ),
    "a class of one of the groups": (
        photographs("aabb" * 10 + "c" * 10, {i: f"s{i // 10}" for i in range(50)}), {"folds": "groups"},
        "the class 'c' has no photograph to train on while the folds 3 and 4 test and validate",
    ),
    "a class without weight in a round": (
        photographs("a" * 50 + "b" * 5).with_columns(weight=(pl.col("image_id") <= "photograph-0050").cast(pl.Float64)),
        {}, "the class 'b' has only photographs of the weight 0 to train on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_folds_is_one_line(case):
    table, changes, message = REFUSED[case]
    with pytest.raises(ThawError) as error:
        draw(table, **changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_class_of_five_photographs_works_and_is_said():
    table = photographs("a" * 50 + "b" * 5)
    drawn = draw(table)["fold"]
    assert drawn.tail(5).n_unique() == 5
    (note,) = folds.notes(table, drawn)
    assert note.startswith("1 class of fewer than 10 photographs (b: 5; those that share a group count as one): ")


def test_each_own_group_is_a_fold_in_the_order_of_names():
    sites = {i: ("north", "east", "west", "south")[i % 4] for i in range(80)}
    table = photographs("aabb" * 10 + "bbaa" * 10, sites)
    drawn = table.select("own_group", fold=draw(table, folds="groups")["fold"]).unique().sort("fold")
    assert drawn["own_group"].to_list() == ["east", "north", "south", "west"]
    assert folds.choose(table, parameters(folds="groups")).why.endswith("each group is tested by a model of the others")


def test_own_groups_with_common_near_duplicates_are_one_fold():
    sites = {i: f"s{i % 4}" for i in range(80)}
    table = photographs("aabb" * 10 + "bbaa" * 10, {i: "s2" if s == "s3" else s for i, s in sites.items()}, own=sites)
    assert draw(table, folds="groups")["fold"].n_unique() == 3
    why = folds.choose(table, parameters(folds="groups")).why
    assert why.endswith("one fold, since they share near-duplicates, or a group of another column: 's2' and 's3'")


# Groups of one's own


def with_column(values: list[str | None], name: str = "meta_patient") -> pl.DataFrame:
    return pl.DataFrame({"image_id": [f"p{i}" for i in range(len(values))], name: values})


def test_columns_of_groups_are_read_with_or_without_their_prefix():
    for group in ("patient", "meta_patient", ["meta_patient"]):
        (values,), warnings = own_groups.read(with_column(["a", "a", "b", "b"]), parameters(group=group).group_columns)
        assert values.to_list() == ["a", "a", "b", "b"] and not warnings


def test_a_group_of_the_source_counts_beside_the_named_one():
    table = with_column(["a", "a", "b", "b"]).with_columns(meta_group=pl.Series(["", "x", "x", None]))
    values, _ = own_groups.read(table, ["meta_patient"])
    assert [series.name for series in values] == ["meta_patient", "meta_group"]
    assert values[1].to_list() == ["", "x", "x", ""]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["", None], "the column meta_patient is empty for all photographs: it groups nothing"),
        (["a", "a"], "the column meta_patient is 'a' for all photographs: a group is never divided"),
    ],
)
def test_a_column_that_groups_nothing_or_everything_is_refused(values, message):
    with pytest.raises(ThawError, match=message):
        own_groups.read(with_column(values), ["meta_patient"])


def test_a_column_that_is_missing_is_named_with_those_that_exist():
    with pytest.raises(ThawError, match=r"no column meta_patients \(did you mean meta_patient\?\)"):
        own_groups.read(with_column(["a", "b"]), ["meta_patients"])


def test_what_is_odd_about_a_column_is_said():
    def warnings(*values: str) -> list[str]:
        return own_groups.read(with_column(list(values)), ["meta_patient"])[1]

    assert warnings("a", "a", "a", "a", "b") == ["80% of the photographs have the meta_patient 'a': they are one group"]
    assert warnings("a", "a", "b", "b", "") == ["photographs without a meta_patient: 1, each a group of its own"]
    assert warnings("a", "a", "NA", "nan", "b", "b") == [
        "photographs without a meta_patient: 2, each a group of its own",
        "2 values of meta_patient count as empty: NA, nan",
    ]
    assert warnings("a", "b", "c", "d") == ["no two photographs have the same meta_patient: it groups nothing"]


# Times


def newer(values: list[str | None], after: str | float) -> list[bool]:
    return times.are_newer(with_column(values, "meta_date"), Photographs(Path()), after, "date").to_list()


def test_dates_numbers_and_time_zones_are_compared_as_such():
    assert newer(["2024-04-30", "2024-05-01", "2024-05-02"], "2024-05-01") == [False, False, True]
    assert newer(["2024-05-01T23:59", "2024-05-02 00:00:01"], "2024-05-01") == [False, True]
    assert newer(["2024-05-01T10:00:00+02:00", "2024-05-01T09:00:00Z"], "2024-05-01T08:30") == [False, True]
    assert newer(["2024:05:01 10:00:00", "2024:05:03 10:00:00"], "2024-05-02") == [False, True]
    assert newer(["9", "10.5", "100"], 10) == [False, True, True]
    assert times.dates.parse_date("0001-01-01T00:00:00+02:00") is None  # in UTC it would be of the year 0


@pytest.mark.parametrize(
    ("values", "after", "message"),
    [
        (
            ["2024-01-01", "yesterday"],
            "2024-05-01",
            r"1 of 2 photographs have no date .* p1 \('yesterday' is no date; dates are such as",
        ),
        (["2024-01-01", ""], "2024-05-01", r"1 of 2 photographs have no date in meta_date, .* p1 \(it is empty\)"),
        (["2024-13-01", "2024-01-01"], "2024-05-01", "'2024-13-01' is no date"),
        (["1", "x"], 1, "'x' is no number"),
        (["2024-01-01"], "soon", "split.after 'soon' is no date"),
        (["2024-01-01", "2024-02-01"], "2024-05-01", "no photograph is newer .* from 2024-01-01 to 2024-02-01"),
        (["2024-01-01", "2024-02-01"], "2023-05-01", "all photographs are newer"),
    ],
)
def test_times_that_are_none_are_one_line(values, after, message):
    with pytest.raises(ThawError, match=message):
        newer(values, after)


def test_a_column_of_times_that_is_missing_is_named():
    with pytest.raises(ThawError, match=r"split.time: the photographs have no column meta_day .*meta_date"):
        times.are_newer(with_column(["2024-01-01"], "meta_date"), Photographs(Path()), "2024-05-01", "day")


def test_the_camera_says_when_a_photograph_was_taken(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2024:06:01 12:00:00"
    Image.new("RGB", (8, 8)).save(tmp_path / "new.jpg", exif=exif)
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2023:06:01 12:00:00"
    Image.new("RGB", (8, 8)).save(tmp_path / "old.jpg", exif=exif)
    table = pl.DataFrame({"image_id": ["new", "old"], "path": ["new.jpg", "old.jpg"]})
    assert times.are_newer(table, Photographs(tmp_path), "2024-05-01", "exif").to_list() == [True, False]
    Image.new("RGB", (8, 8)).save(tmp_path / "old.jpg")
    with pytest.raises(
        ThawError, match=r"1 of 2 photographs have no date in EXIF, the first is old .* split.time names"
    ):
        times.are_newer(table, Photographs(tmp_path), "2024-05-01", "exif")


# The stage


@pytest.fixture
def run_stage(tmp_path, monkeypatch):
    """A function that splits 40 photographs of two classes, with these further columns and parameters."""
    for label in ("cat", "dog"):
        (tmp_path / "mine" / label).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (8, 8), 5 * number).save(tmp_path / "mine" / label / f"{label}-{number:02d}.png")
    (tmp_path / "data").mkdir()
    collect(folder.find(folder.Folder(path=str(tmp_path / "mine"))), tmp_path / "data/raw")
    monkeypatch.chdir(tmp_path)
    images = tables.read_images(Path("data/raw"))

    def run_stage(columns: dict[str, list[str]] | None = None, **changes) -> pl.DataFrame:
        images.with_columns(**{name: pl.Series(values) for name, values in (columns or {}).items()}).write_csv(
            "data/raw/images.csv"
        )
        values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        values["split"] |= {"group_duplicates": False} | changes
        Path("params.yaml").write_text(yaml.safe_dump(values))
        script.main()
        return tables.read(Path("data/split.csv"), tables.SPLIT)

    return run_stage


def test_the_stage_writes_a_column_for_each_repeat_and_says_what_was_taken(run_stage, capsys):
    table = run_stage(folds="auto", repeats=2)
    assert table.columns == [*tables.SPLIT, "fold", "fold_2"]
    assert set(table["split"]) == {"train"} and set(table["fold"]) == set(range(5))
    line = "split: 5 folds of 8 photographs, drawn 2 times (split.folds: auto, for fewer than 1,000 photographs); "
    assert line in capsys.readouterr().out


def test_a_column_that_is_missing_is_said_before_the_work(run_stage, monkeypatch):
    monkeypatch.setattr(script.thumbnails, "read", lambda *_: pytest.fail("near-duplicates were looked for"))
    with pytest.raises(ThawError, match=r"split.group: the photographs have no column meta_patient"):
        run_stage(group="patient", group_duplicates=True)


def test_repeats_that_have_no_effect_are_said(run_stage, capsys):
    line = "split: warning: split.repeats: 3 has no effect, since there are no folds\n"
    run_stage(folds="auto", repeats=3)
    assert line not in capsys.readouterr().out
    run_stage({"meta_subset": ["train", "train", "validation", "test"] * 10}, folds="auto", repeats=3)
    assert line in capsys.readouterr().out


def test_a_column_of_times_that_has_no_effect_is_said(run_stage, capsys):
    run_stage(time="date")
    assert "split: warning: split.time: date has no effect, since split.after is null\n" in capsys.readouterr().out


def test_without_folds_the_stage_writes_no_such_column(run_stage):
    assert run_stage().columns == list(tables.SPLIT)


def test_a_patient_is_in_one_fold(run_stage):
    patients = [f"p{i % 13}" for i in range(40)]
    table = run_stage({"meta_patient": patients}, folds=5, group="patient")
    of_patient = table.with_columns(patient=pl.Series(patients)).group_by("patient").agg(pl.col("fold").n_unique())
    assert len(of_patient) == 13 and of_patient["fold"].max() == 1


def test_newer_photographs_are_tested_and_older_ones_of_their_groups_are_left_out_and_counted(run_stage, capsys):
    dates = [f"2024-{1 + i % 10:02d}-15" for i in range(40)]
    patients = ["leak" if i in (0, 9) else f"p{i}" for i in range(40)]  # of January and of October
    table = run_stage({"meta_date": dates, "meta_patient": patients}, after="2024-08-31", time="date", group="patient")
    named = table.join(tables.read_images(Path("data/raw")).select("image_id", "meta_date"), on="image_id")
    assert set(named.filter(pl.col("meta_date") > "2024-08-31")["split"]) == {"test"}
    assert set(named.filter(pl.col("meta_date") < "2024-08-31")["split"]) == {"train", "validation"}
    assert len(named) == 39
    assert "; left out of training: 1, near-duplicates of, or in one group with, photographs newer than 2024-08-31" in (
        capsys.readouterr().out
    )


def test_a_class_without_newer_photographs_is_named(run_stage):
    dates = ["2024-01-15" if i < 20 or i % 2 else "2024-10-15" for i in range(40)]
    with pytest.raises(ThawError, match=r"the class 'cat' has no photograph newer than split.after 2024-08-31"):
        run_stage({"meta_date": dates}, after="2024-08-31", time="date")


def test_a_planted_leak_in_ones_own_split_is_left_out_counted_and_reported_where_it_is_kept(run_stage, capsys):
    columns = {
        "meta_subset": [("train", "train", "validation", "test")[i % 4] for i in range(40)],
        "meta_patient": ["leak" if i in (0, 3) else f"p{i}" for i in range(40)],
    }
    table = run_stage(columns, group="patient")
    assert (
        len(table) == 39 and "; left out of training: 1, near-duplicates of, or in one group" in capsys.readouterr().out
    )
    kept = run_stage(columns, group="patient", duplicates_across="keep")
    assert "; trained on all the same: 1, near-duplicates of, or in one group" in capsys.readouterr().out
    described = health.describe(
        tables.read_images(Path("data/raw")), kept, pl.DataFrame(schema=DUPLICATES), missing(), ("cat", "dog")
    )
    assert described.across_splits == 2


def test_a_split_of_ones_own_and_a_time_exclude_one_another(run_stage):
    columns = {"meta_subset": ["train", "test"] * 20, "meta_date": ["2024-01-15", "2024-10-15"] * 20}
    with pytest.raises(ThawError, match=r"split.after and the split that was given .* exclude one another"):
        run_stage(columns, after="2024-08-31", time="date")


# What reads the table


def missing() -> pl.DataFrame:
    return pl.DataFrame(schema=tables.MISSING)


def test_photographs_are_counted_by_fold(run_stage):
    table = run_stage(folds=4)
    described = health.describe(
        tables.read_images(Path("data/raw")), table, pl.DataFrame(schema=DUPLICATES), missing(), ("cat", "dog")
    )
    assert described.counts == {f"fold {i}": [5, 5] for i in range(4)}
    assert described.tested == described.trained == 40 and described.across_splits == 0


def test_of_one_split_only_those_of_test_are_tested():
    table = pl.DataFrame({"split": ["train", "test", "validation", "train"]})
    assert len(tables.tested(table)) == 1
    assert len(tables.tested(table.with_columns(fold=pl.lit(0)))) == 4


def test_the_line_after_a_run_counts_every_photograph(run_stage, monkeypatch, capsys):
    run_stage(folds=4)
    Path("reports").mkdir(exist_ok=True)
    scores = {"accuracy": 0.8, **{f"accuracy_weighted{end}": 0.8 for end in ("", "_low", "_high")}}
    monkeypatch.setattr(result, "read_json", lambda _: {"fine_tuned": {"test": scores}})
    monkeypatch.setattr(sys, "argv", ["result.py"])
    capsys.readouterr()
    result.main()
    line = "result: 80.0% of the 40 photographs, each tested by a model that had not seen it, are right (95% interval "
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("seed", range(3))
def test_a_stratum_of_as_many_photographs_as_folds_is_in_each_fold(seed):
    strata = [f"site {i // 5}" for i in range(20)] + ["the others"] * 280
    table = photographs("a" * 300).with_columns(stratum=pl.Series(strata))
    drawn = table.with_columns(draw(table, seed=seed)).filter(pl.col("stratum") != "the others")
    assert drawn.group_by("stratum").agg(pl.col("fold").n_unique())["fold"].to_list() == [5] * 4
