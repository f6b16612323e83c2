"""The extraction: its size is known before it begins, and recomputed outputs are those of the array."""

import errno
import json
import os
import shutil
from collections import namedtuple
from dataclasses import asdict, replace

import drawn_views
import numpy as np
import polars as pl
import pytest
from drawn_views import AUGMENT, IMAGE

from thaw.core import kept_rows, tables
from thaw.core.cache import HEADER, Cache
from thaw.core.errors import ThawError
from thaw.engines import inference, openvino_setup
from thaw.engines.keras_setup import keras
from thaw.engines.keras_to_openvino import convert
from thaw.features import examples, extraction
from thaw.features.extraction import Dataset, ImageSettings, PlannedArray, PlannedViews, Recomputed
from thaw.images import augmentation_plan
from thaw.parameters.image import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven drawn images with a table, a split, a plan of two augmented views of five of them, and a small network."""
    folder = tmp_path_factory.mktemp("extraction")
    drawn_views.draw(folder)
    keras.utils.set_random_seed(1)
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, 2, padding="same", name="cut")(image)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    openvino_setup.write(convert(keras.Model(image, {"cut": x, "features": features})), folder / "backbone.xml")
    return folder


@pytest.fixture(scope="module")
def dataset(folder):
    return drawn_views.dataset(folder)


@pytest.fixture(scope="module")
def planned(dataset):
    return PlannedViews(dataset, IMAGE)


def test_every_image_has_its_plain_view_and_the_planned_ones(planned):
    rows = planned.rows.group_by("image_id", maintain_order=True).agg("copy")
    assert rows["image_id"].to_list() == [f"p{number}" for number in range(7)]
    assert rows["copy"].to_list() == [[0, 1, 2]] * 5 + [[0]] * 2


@pytest.mark.parametrize("layer", ["cut", None])
def test_recomputed_outputs_are_those_of_the_array(folder, dataset, planned, tmp_path, layer):
    extraction.extract(planned, extraction.engine(folder, layer, IMAGE), tmp_path / "activations.npy")
    cut = {"layer": layer, "image": asdict(IMAGE), "preset": None}
    (tmp_path / "cut.json").write_text(json.dumps(cut))
    cached = extraction.open_activations(tmp_path, dataset, folder)
    array = extraction.PlannedArray(len(planned.rows), layer, {layer: cached.shape[1:]})
    extraction.write_no_rows(tmp_path / "none.npy", array)
    (tmp_path / "none.npy").replace(tmp_path / "activations.npy")
    recomputed = extraction.open_activations(tmp_path, dataset, folder)
    assert isinstance(cached, np.memmap) and isinstance(recomputed, Recomputed)
    assert recomputed.shape == cached.shape
    assert len(cached) == len(planned.rows)
    assert recomputed.dtype == cached.dtype
    rows = np.array([16, 2, 0, 1, 1, 5, 12, 15])
    np.testing.assert_array_equal(recomputed[rows], cached[rows], strict=True)


def test_of_one_preset_the_rows_are_those_of_all_without_the_other_presets(folder, dataset, planned, tmp_path):
    """With and without a cache: training reads by the row numbers of rows.csv."""
    strong = AUGMENT.model_copy(update={"preset": "auto", "flip_horizontal": None, "flip_vertical": None})
    plan = augmentation_plan.draw([f"p{number}" for number in range(5)], strong)
    tables.write(plan, tmp_path / "augmentations.csv")
    dataset = Dataset(dataset.raw, dataset.split, tmp_path / "augmentations.csv")
    all_views, chosen = (PlannedViews(dataset, IMAGE, preset) for preset in (None, "any_way_up"))
    assert chosen.rows["copy"].to_list() == [0, 3, 4] * 5 + [0] * 2
    extraction.describe(tmp_path, dataset.raw, all_views.rows)
    rows = examples.read_rows(tmp_path, "any_way_up")
    assert rows.drop("row").equals(chosen.rows)
    features = np.concatenate(list(all_views.draw()))
    np.testing.assert_array_equal(np.concatenate(list(chosen.draw())), features[rows["row"].to_numpy()], strict=True)
    cut = {"layer": None, "image": asdict(IMAGE), "preset": "any_way_up"}
    (tmp_path / "cut.json").write_text(json.dumps(cut))
    array = extraction.PlannedArray(len(rows), None, {None: features.shape[1:]})
    extraction.write_no_rows(tmp_path / "activations.npy", array)
    recomputed = extraction.open_activations(tmp_path, dataset, folder)
    np.testing.assert_array_equal(recomputed[np.arange(len(rows))], features[rows["row"].to_numpy()], strict=True)


@pytest.mark.parametrize("axes", [(2,), (1,), (1, 2)])
def test_views_are_flipped_before_they_pass_the_frozen_layers(folder, planned, axes):
    rows = np.array([4, 0, 9])
    flipped = Recomputed(planned, folder, None, IMAGE).flipped(axes)
    views = np.concatenate(list(planned.draw(rows)))
    np.testing.assert_array_equal(flipped[rows], np.flip(views, axes), strict=True)
    run = extraction.engine(folder, "cut", IMAGE)
    outputs = np.concatenate(list(run(inference.rebatch([np.flip(views, axes)]))))
    flipped = Recomputed(planned, folder, "cut", IMAGE).flipped(axes)
    np.testing.assert_array_equal(flipped[rows], outputs, strict=True)


# --- Kept outputs ---


class Counted:
    """Extractions of one folder with a cache; `computed` counts the views that went through the network."""

    def __init__(self, backbone, cache):
        self.backbone, self.cache, self.computed = backbone, cache, 0

    def extract(self, dataset, image=IMAGE, layer="cut", run=None) -> bytes:
        """Return the array as bytes."""
        dataset = replace(dataset, cache=self.cache)
        run = run or extraction.engine(self.backbone, layer, image)

        def counted(batches):
            for batch in run(batches):
                self.computed += len(batch)
                yield batch

        output = self.cache.folder.parent / "array.npy"
        kept = extraction.kept_outputs(dataset, self.backbone, layer, image)
        extraction.extract(PlannedViews(dataset, image), counted, output, kept)
        return output.read_bytes()


CHECK = 5  # views with which an engine is checked before outputs are kept


@pytest.fixture
def counted(folder, tmp_path):
    return Counted(folder, Cache(tmp_path / "cache", 10**9))


@pytest.fixture
def own(folder, tmp_path):
    """A dataset that may be changed."""
    shutil.copytree(folder / "raw", tmp_path / "raw")
    for name in ("split.csv", "augmentations.csv"):
        shutil.copyfile(folder / name, tmp_path / name)
    return Dataset(tmp_path / "raw", tmp_path / "split.csv", tmp_path / "augmentations.csv")


def from_scratch(folder, dataset, tmp_path, layer="cut"):
    extraction.extract(PlannedViews(dataset, IMAGE), extraction.engine(folder, layer, IMAGE), tmp_path / "scratch.npy")
    return (tmp_path / "scratch.npy").read_bytes()


def without(dataset, *image_ids):
    """The same without some images, beside it."""
    for path in (dataset.split, dataset.augmentations):
        table = pl.read_csv(path)
        tables.write(table.filter(~pl.col("image_id").is_in(image_ids)), path.with_name(f"fewer-{path.name}"))
    return replace(dataset, **{name: getattr(dataset, name).with_name(f"fewer-{getattr(dataset, name).name}")
                               for name in ("split", "augmentations")})  # fmt: skip


def entries(cache):
    return [entry.path for entry in cache.entries("outputs")]


@pytest.mark.parametrize("layer", ["cut", "features"])
def test_a_second_run_computes_nothing_and_gives_the_same_bytes(folder, dataset, counted, tmp_path, layer):
    expected = from_scratch(folder, dataset, tmp_path, layer)
    assert counted.extract(dataset, layer=layer) == expected
    assert counted.computed == 17 + CHECK and len(entries(counted.cache)) == 1
    assert counted.extract(dataset, layer=layer) == expected
    assert counted.computed == 17 + CHECK and len(entries(counted.cache)) == 1


@pytest.mark.parametrize("new", [["p0"], ["p6"], ["p1", "p3", "p5"]])
def test_of_added_images_alone_the_views_are_computed(folder, dataset, own, counted, tmp_path, new):
    counted.extract(without(own, *new))
    before = counted.computed
    assert counted.extract(own) == from_scratch(folder, dataset, tmp_path)
    views = sum(3 if image_id < "p5" else 1 for image_id in new)
    assert counted.computed - before == views + CHECK


def test_a_longer_plan_computes_the_new_copies_alone(folder, own, counted, tmp_path):
    counted.extract(own)
    before, more = counted.computed, AUGMENT.model_copy(update={"copies": 3})
    tables.write(augmentation_plan.draw([f"p{number}" for number in range(5)], more), own.augmentations)
    assert counted.extract(own) == from_scratch(folder, own, tmp_path)
    assert counted.computed - before == 5 + CHECK


def test_what_an_output_rests_on_is_in_its_key(folder, own, counted, tmp_path):
    counted.extract(own)
    for change in ("content", "size", "resize", "layer", "view", "network"):
        before = counted.computed
        if change == "content":
            image = own.raw / "images" / "p2.png"
            image.write_bytes((own.raw / "images" / "p3.png").read_bytes()[:-1] + b"\x83")
            expected = 3
        elif change == "view":
            plan = pl.read_csv(own.augmentations)
            tables.write(
                plan.with_columns(rotation=pl.col("rotation") + (pl.int_range(pl.len()) == 4)), own.augmentations
            )
            expected = 1
        elif change == "network":
            counted.backbone = shutil.copytree(folder, tmp_path / "network")
            weights = counted.backbone / "backbone.bin"
            weights.write_bytes(weights.read_bytes() + b"\0")
            expected = 17
        else:
            expected = 17
        image = {"size": replace(IMAGE, size=24), "resize": replace(IMAGE, resize="pad")}.get(change, IMAGE)
        counted.extract(own, image, layer="features" if change == "layer" else "cut")
        assert counted.computed - before == expected + CHECK, change


@pytest.mark.parametrize("place", [-1, HEADER.size + 30, None])
def test_what_is_damaged_is_computed_again(folder, dataset, counted, place, capfd):
    """The last row, the index, or the whole entry, which is cut short."""
    expected = counted.extract(dataset)
    [path] = entries(counted.cache)
    content = bytearray(path.read_bytes())
    if place is None:
        del content[len(content) // 2 :]
    else:
        content[place] ^= 1
    path.write_bytes(content)
    before = counted.computed
    assert counted.extract(dataset) == expected
    assert counted.computed - before == 17 + CHECK and path.exists()
    assert counted.extract(dataset) == expected
    assert counted.computed - before == 17 + CHECK
    assert capfd.readouterr().err.count("is damaged") == 1


def test_nothing_is_kept_under_the_hash_of_a_file_that_was_replaced_meanwhile(own, counted, folder, tmp_path):
    path = sorted((own.raw / "images").iterdir())[0]
    before = path.read_bytes()
    run = extraction.engine(counted.backbone, "cut", IMAGE)

    def replaced(batches):
        path.write_bytes(sorted((own.raw / "images").iterdir())[1].read_bytes())
        yield from run(batches)

    with pytest.raises(ThawError, match=f"{path.name} changed while it was read"):
        counted.extract(own, run=replaced)
    path.write_bytes(before)
    assert counted.extract(own) == from_scratch(folder, own, tmp_path)


@pytest.mark.parametrize("error", [errno.ESTALE, errno.EIO])
def test_what_cannot_be_read_from_the_disk_is_computed_again(dataset, counted, monkeypatch, error):
    expected = counted.extract(dataset)

    def fails(*_):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(kept_rows.os, "pread", fails)
    assert counted.extract(dataset) == expected


def test_rows_that_go_while_they_are_read_end_in_one_line(dataset, counted, monkeypatch):
    counted.extract(dataset)
    monkeypatch.setattr(kept_rows.KeptRows, "_are_undamaged", lambda *_: True)
    monkeypatch.setattr(kept_rows.os, "pread", lambda *_: b"")
    with pytest.raises(ThawError, match="cannot be read any more: run again"):
        counted.extract(dataset)


def test_few_open_files_are_enough(dataset, counted, monkeypatch):
    monkeypatch.setattr(kept_rows, "SEGMENT_BYTES", 1)  # a segment for each batch
    expected = counted.extract(dataset)
    assert len(entries(counted.cache)) > 4
    monkeypatch.setattr(kept_rows.resource, "getrlimit", lambda _: (8, 8))
    rows = extraction.kept_outputs(replace(dataset, cache=counted.cache), counted.backbone, "cut", IMAGE)
    rows.find(np.zeros((1, 16), np.uint8))
    assert len(rows._segments) == 4
    assert counted.extract(dataset) == expected


def test_a_run_that_is_killed_goes_on_from_what_it_kept(dataset, counted, monkeypatch):
    expected = counted.extract(dataset)
    counted.cache.shrink(0)
    monkeypatch.setattr(kept_rows, "SEGMENT_BYTES", 3 * 16 * 16 * 4 * 2)  # of three or four rows of the cut
    run = extraction.engine(counted.backbone, "cut", IMAGE)

    def stopped(batches):
        for number, batch in enumerate(run(batches)):
            if number == 6:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        counted.extract(dataset, run=stopped)
    before = counted.computed
    assert counted.extract(dataset) == expected
    assert counted.computed - before == 17 - 12 + CHECK


def test_an_engine_whose_outputs_depend_on_the_batch_keeps_none(dataset, counted, capfd):
    def depends(batches):
        for batch in batches:
            yield batch[:, ::2, ::2, :1].astype(np.float16) + len(batch)

    counted.extract(dataset, run=depends)
    assert not entries(counted.cache) and "none of them is kept" in capfd.readouterr().err


def test_outputs_that_do_not_fit_are_said_before_the_work(dataset, counted, capfd):
    expected = counted.extract(dataset)
    counted.cache.shrink(0)
    counted.cache = Cache(counted.cache.folder, 10_000)
    assert counted.extract(dataset) == expected
    assert "17 new outputs need 35 kB" in capfd.readouterr().err and not entries(counted.cache)


def test_no_outputs_are_kept_of_pixels_without_a_cache_or_on_another_engine(folder, dataset, counted):
    cached = replace(dataset, cache=counted.cache)
    assert extraction.kept_outputs(cached, folder, "cut", IMAGE) is not None
    assert extraction.kept_outputs(dataset, folder, "cut", IMAGE) is None
    assert extraction.kept_outputs(cached, folder, None, IMAGE) is None
    assert extraction.kept_outputs(cached, folder, "cut", replace(IMAGE, engine="tensorflow")) is None


def test_a_size_that_is_not_named_is_that_of_the_backbone(tmp_path):
    (tmp_path / "backbone.json").write_text('{"size": 299, "only_size": null}')
    image = Image(size=None, resize="pad", engine="tensorflow", precision="float32")
    assert extraction.sized(image, tmp_path) == ImageSettings(299, "pad", "tensorflow")
    assert extraction.sized(image.model_copy(update={"size": 32}), tmp_path) == ImageSettings(32, "pad", "tensorflow")


def test_a_size_that_the_backbone_does_not_take_is_one_line(tmp_path):
    (tmp_path / "backbone.json").write_text('{"name": "VGG16", "size": 224, "only_size": 224}')
    image = Image(size=160, resize="crop", engine="openvino", precision="float32")
    with pytest.raises(ThawError, match=r"image\.size should be 224, not 160: VGG16 takes"):
        extraction.sized(image, tmp_path)
    for size in (224, None):
        assert extraction.sized(image.model_copy(update={"size": size}), tmp_path).size == 224


SHAPES = {None: (100, 100, 3), "early": (50, 50, 8), "middle": (10, 10, 40), "late": (100,)}


def with_free_bytes(monkeypatch, free):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda _: usage(10**12, 0, free))


@pytest.mark.parametrize(
    ("size", "resize", "text"),
    [
        (40, "crop", ""),  # the photographs are 50 by 40
        (80, "crop", "; 7 of 7 photographs are enlarged, by a median factor of 2.0"),
        (80, "squash", "; 7 of 7 photographs are enlarged, by a median factor of 2.0"),
        (80, "pad", "; 7 of 7 photographs are enlarged, by a median factor of 1.6"),
        (45, "pad", ""),
    ],
)
def test_how_many_photographs_are_enlarged_is_said(dataset, size, resize, text):
    assert extraction.enlarged_text(dataset.raw, dataset.split, ImageSettings(size, resize, "openvino")) == text


def test_the_bytes_are_known_before_the_work(tmp_path, monkeypatch):
    with_free_bytes(monkeypatch, 10**12)
    for layer, size in (("middle", "8 MB"), (None, "30 MB"), ("late", "200 kB")):
        array = PlannedArray(1000, layer, SHAPES)
        extraction.check_space(tmp_path, array, "")
        assert array.size == size


def test_too_little_disk_says_what_is_needed_and_free_and_which_deeper_cut_fits(tmp_path, monkeypatch):
    with_free_bytes(monkeypatch, 9_000_000)
    with pytest.raises(ThawError) as caught:
        extraction.check_space(tmp_path, PlannedArray(1000, "early", SHAPES), "freeze deeper")
    assert str(caught.value) == (
        "1,000 outputs of early, 50×50×8 each, need 40 MB of disk, but 9 MB are free: "
        "middle would need 8 MB; freeze deeper"
    )


def test_where_no_deeper_cut_fits_none_is_named(tmp_path, monkeypatch):
    with_free_bytes(monkeypatch, 1000)
    with pytest.raises(ThawError, match=r"1,000 outputs of the input, .* are free: freeze deeper$"):
        extraction.check_space(tmp_path, PlannedArray(1000, None, SHAPES), "freeze deeper")


def test_shapes_come_in_the_order_asked_for(folder):
    shapes = inference.output_shapes(folder / "backbone.xml", ["features", "cut"], 32)
    assert shapes == {None: (32, 32, 3), "features": (4,), "cut": (16, 16, 4)}
    assert list(shapes) == [None, "features", "cut"]
