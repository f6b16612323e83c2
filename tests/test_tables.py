"""Tables read back as they were written; a file that is not such a table is an error of one line."""

import numpy as np
import polars as pl
import pytest

from thaw.core import tables
from thaw.core.errors import ThawError

SCHEMA = {"image_id": pl.String, "label": pl.String, "weight": pl.Float64}
ODD = [
    "a,b", 'the "quoted"', "two\nlines", "\r\n", "", " spaces ", "é漢字😀", "#comment", "'", '"', "\t", "-", "null",
    "NA", "nan", "true", "001", "1e5", "0x10", "2020-01-01", "=1+1",
]  # fmt: skip


def split_table(values: list[str]) -> pl.DataFrame:
    ids = [f"{i:03d}" for i in range(len(values))]
    columns = {"image_id": ids, "label": values, "weight": [1.0] * len(values), "group": values, "split": values}
    return pl.DataFrame(columns, tables.SPLIT)


def refusal(path, schema=SCHEMA) -> str:
    with pytest.raises(ThawError) as caught:
        tables.read(path, schema)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_odd_text_reads_back_as_it_was(tmp_path):
    table = split_table(ODD)
    tables.write(table, tmp_path / "split.csv")
    assert tables.read(tmp_path / "split.csv", tables.SPLIT).equals(table)


@pytest.mark.parametrize("text", ODD)
def test_odd_text_reads_back_as_it_was_where_the_whole_column_is_of_its_kind(tmp_path, text):
    table = split_table([text, text])
    tables.write(table, tmp_path / "split.csv")
    assert tables.read(tmp_path / "split.csv", tables.SPLIT).equals(table)


@pytest.mark.parametrize(
    "ids", [["001", "002"], ["1e5", "2e5"], ["007"], ["1", "2"], ["true", "false"], ["nan", "inf"]]
)
def test_ids_that_look_like_something_else_stay_text(tmp_path, ids):
    table = pl.DataFrame({"image_id": ids, "label": ids, "weight": 1.0, "meta_serial": ids})
    tables.write(table, tmp_path / "table.csv")
    assert tables.read(tmp_path / "table.csv", SCHEMA).equals(table)


@pytest.mark.parametrize("value", [0.1 + 0.2, 1 / 3, 1e-300, 5e-324, 1.7976931348623157e308, 0.0, 1.0])
def test_a_weight_reads_back_to_the_last_bit(tmp_path, value):
    table = pl.DataFrame({"image_id": ["a"], "label": ["b"], "weight": [value]})
    tables.write(table, tmp_path / "table.csv")
    assert tables.read(tmp_path / "table.csv", SCHEMA)["weight"][0] == value


def test_a_whole_weight_is_a_number_with_a_fraction(tmp_path):
    (tmp_path / "table.csv").write_text("image_id,label,weight\na,b,1\n")
    assert tables.read(tmp_path / "table.csv", SCHEMA).schema["weight"] == pl.Float64


def test_further_columns_are_numbers_where_all_of_their_values_are(tmp_path):
    (tmp_path / "table.csv").write_text("image_id,label,weight,hue,note\na,b,1,0.5,1\nc,d,1,1,x\n")
    table = tables.read(tmp_path / "table.csv", SCHEMA)
    assert table["hue"].to_list() == [0.5, 1.0]
    assert table["note"].to_list() == ["1", "x"]


@pytest.mark.parametrize("rows", [0, 1, 99_999, 100_000, 100_001, 250_000])
def test_a_table_of_any_length_is_written_whole(tmp_path, rows):
    columns = {"image_id": np.arange(rows).astype(str), "copy": np.arange(rows), "preset": [None] * rows}
    table = pl.DataFrame(columns, tables.ROWS)
    tables.write(table, tmp_path / "rows.csv")
    assert tables.read(tmp_path / "rows.csv", tables.ROWS).equals(table)


def test_the_same_table_is_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        tables.write(split_table(ODD), tmp_path / f"{name}.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_missing_columns_are_named(tmp_path):
    (tmp_path / "table.csv").write_text("image_id,colour\na,red\n")
    assert "label, weight are missing" in refusal(tmp_path / "table.csv")


def test_an_id_that_stands_twice_is_named(tmp_path):
    (tmp_path / "table.csv").write_text("image_id,label,weight\na,x,1\nb,x,1\na,y,1\n")
    assert refusal(tmp_path / "table.csv").endswith("the id a is there more than once")


def test_a_copy_that_stands_twice_is_refused(tmp_path):
    (tmp_path / "rows.csv").write_text("image_id,copy,preset\na,1,upright\na,1,upright\n")
    assert "a is there more than once" in refusal(tmp_path / "rows.csv", tables.ROWS)


def test_copies_of_one_id_are_no_repetition(tmp_path):
    (tmp_path / "rows.csv").write_text("image_id,copy,preset\na,0,\na,1,upright\n")
    assert len(tables.read(tmp_path / "rows.csv", tables.ROWS)) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
        b"image_id,label,weight\na,b,heavy\n",
        b"image_id,label,weight\n\xff\xfe,b,1\n",
        b"image_id,label,weight\na,b,1,2,3\n",
        b'image_id,label,weight\n"a,b,1\n',
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, content):
    (tmp_path / "table.csv").write_bytes(content)
    refusal(tmp_path / "table.csv")


def test_a_missing_table_is_one_line_that_says_how_to_make_it(tmp_path):
    assert "is missing: run `dvc repro`" in refusal(tmp_path / "table.csv")


def test_a_path_with_a_pattern_in_it_is_that_file(tmp_path):
    table = pl.DataFrame({"image_id": ["a"], "label": ["b"], "weight": [1.0]})
    tables.write(table, tmp_path / "[1]*.csv")
    assert tables.read(tmp_path / "[1]*.csv", SCHEMA).equals(table)


def test_images_are_read_in_the_order_of_their_ids(tmp_path):
    rows = {name: ["2"] if dtype == pl.String else [1] for name, dtype in tables.IMAGES.items()}
    table = pl.DataFrame(rows, tables.IMAGES)
    tables.write(pl.concat([table, table.with_columns(image_id=pl.lit("10"))]), tmp_path / "images.csv")
    assert tables.read_images(tmp_path)["image_id"].to_list() == ["10", "2"]


@pytest.mark.parametrize("first, last, expected", [
    ("1", "2", pl.Int64), ("1", "2.5", pl.Float64), ("1.5", "2", pl.Float64), ("1", "x", pl.String),
    ("x", "1", pl.String), ("", "1", pl.Int64), ("", "x", pl.String), ("1", "", pl.Int64), ("true", "x", pl.String),
])  # fmt: skip
def test_a_column_is_what_all_of_its_values_allow_however_late_they_stand(tmp_path, monkeypatch, first, last, expected):
    monkeypatch.setattr(tables, "SAMPLE_ROWS", 3)
    rows = [f"{i:02},cat,1.0,{first if i < 5 else last}" for i in range(10)]
    (tmp_path / "table.csv").write_text("\n".join(["image_id,label,weight,other", *rows]) + "\n")
    other = tables.read(tmp_path / "table.csv", SCHEMA)["other"]
    values = [None if value == "" else value for value in [first] * 5 + [last] * 5]
    assert other.dtype == expected
    assert other.to_list() == pl.Series(values, dtype=pl.String).cast(expected).to_list()
