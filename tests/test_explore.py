"""The run as a FiftyOne dataset, with the real FiftyOne and its database; tests that need them skip without them."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest
from fiftyone_database import joined, own_database

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.exploration import analysis, finished_run, samples, saved_views
from thaw.sources import fiftyone_setup

ROOT = Path(__file__).parents[1]
installed = pytest.mark.skipif(not find_spec("fiftyone"), reason="FiftyOne is not installed: requirements-fiftyone.txt")

CLASSES = ["cat", "dog"]
LABELS = dict(zip("abcdefghijkl", CLASSES * 6, strict=True))
SPLITS = dict(zip(LABELS, ["train"] * 4 + ["validation"] * 4 + ["test"] * 4, strict=True))
DOG = {  # model → its probability of a dog for each photograph
    "head": [0.1, 0.9, 0.7, 0.9, 0.2, 0.3, 0.6, 0.8, 0.1, 0.4, 0.9, 0.8],
    "fine_tuned": [0.1, 0.9, 0.2, 0.9, 0.2, 0.8, 0.9, 0.9, 0.1, 0.2, 0.3, 0.9],
}


def write_run(
    folder: Path, ids: str = "abcdefghijkl", dog: dict = DOG, splits: dict = SPLITS, several: bool = False
) -> Path:
    """Write the files of a finished run of these photographs: raw data, split, features, predictions.

    several: `a` shows both classes, it is not known of `b` whether it shows a cat, and all others have one label.
    """
    shutil.rmtree(folder / "data", ignore_errors=True)
    for name in ("raw/images", "features", "predictions"):
        (folder / "data" / name).mkdir(parents=True)
    ids, rng = sorted(ids), np.random.default_rng(0)
    labels = [LABELS[i] for i in ids]
    for i in ids:
        cv2.imwrite(str(folder / f"data/raw/images/{i}.png"), rng.integers(0, 255, (6, 8, 3), np.uint8))
    table = {"image_id": ids, "label": labels, "weight": [0.5 if i == "a" else 1.0 for i in ids]}
    images = {"path": [f"images/{i}.png" for i in ids], "source": "folder", "license": "CC0", "author": "me"}
    images |= {"landing_url": "", "sha256": "", "width": 8, "height": 6, "meta_box": [str(i < "f") for i in ids]}
    known = [
        (i, name, int(name == LABELS[i] or i == "a"), 1.0) for i in ids for name in CLASSES if (i, name) != ("b", "cat")
    ]
    if several:
        labels[0] = "cat + dog"
    schema = ["image_id", "label", "value", "weight"]
    pl.DataFrame(known * several, schema, orient="row").write_csv(folder / "data/raw/labels.csv")
    pl.DataFrame({**table, **images}).write_csv(folder / "data/raw/images.csv")
    split = {"group": ["a" if i in "ab" else i for i in ids], "split": [splits[i] for i in ids]}
    pl.DataFrame({**table, **split}).write_csv(folder / "data/split.csv")

    rows = [(i, copy) for i in ids for copy in range(3 if splits[i] == "train" else 1)]
    views = pl.DataFrame(rows, schema=["image_id", "copy"], orient="row")
    views = views.with_columns(preset=pl.when(pl.col("copy") > 0).then(pl.lit("upright")))
    views.write_csv(folder / "data/features/rows.csv")
    features = np.stack([feature(i) + copy for i, copy in rows]).astype(np.float16)
    np.save(folder / "data/features/features.npy", features)
    (folder / "data/features/classes.json").write_text(json.dumps(CLASSES))

    predictions = {"image_id": ids, "split": split["split"], "label": labels}
    for model, values in dog.items():
        p = np.array([values[sorted(LABELS).index(i)] for i in ids], np.float32)
        np.save(folder / f"data/predictions/{model}.npy", np.stack([1 - p, p], axis=1))
        predictions[f"{model}_label"] = [CLASSES[int(q > 0.5)] for q in p]
        if several:
            predictions[f"{model}_label"][:2] = ["", "cat + dog"]
        predictions[f"{model}_probability"] = [float(max(q, 1 - q)) for q in p]
    predictions["self_confidence"] = [(1 + sorted(LABELS).index(i)) / 100 for i in ids]
    pl.DataFrame(predictions).write_csv(folder / "data/predictions/predictions.csv")
    return folder


def feature(image_id: str) -> np.ndarray:
    """16 numbers of each photograph's own, but for `k`, which all but repeats `j`."""
    values = np.random.default_rng(ord("j" if image_id == "k" else image_id)).normal(size=16)
    return values + 0.01 * (image_id == "k")


def read(folder: Path) -> finished_run.Run:
    data = folder / "data"
    return finished_run.read(data / "raw", data / "split.csv", data / "features", data / "predictions")


def script(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "src/explore.py", *arguments]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


# The worker below runs these functions. Once imported, FiftyOne stays with one database, and other tests have theirs.


def explore(folder: Path, name: str) -> dict:
    fiftyone_setup.connect("this test")
    run = read(folder)
    dataset = samples.open_dataset(name, folder, run.table["image_id"])
    added, removed = samples.update(dataset, run)
    analysis.analyse_features(dataset, run)
    accuracies = analysis.evaluate(dataset, run)
    return {
        "added": added,
        "removed": removed,
        "accuracies": accuracies,
        "taken": saved_views.save(dataset, run.values is not None),
    }


def contents(name: str) -> dict:
    """Return samples, views, evaluations and arrays of a dataset, by id of the photograph."""
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    views = {view: dataset.load_saved_view(view).values("image_id") for view in dataset.list_saved_views()}
    counts = {key: dataset.load_evaluation_results(key).confusion_matrix() for key in dataset.list_evaluations()}
    samples = {sample.image_id or "their own": sample.to_dict() for sample in dataset}
    ids, *arrays = dataset.exists("image_id").values(["image_id", "features", "head.logits"])
    features, logits = (dict(zip(ids, array, strict=True)) for array in arrays)
    map_shape = dataset.load_brain_results("features_pca").points.shape
    return {
        "samples": samples,
        "views": views,
        "counts": counts,
        "features": features,
        "logits": logits,
        "map": map_shape,
    }


def add_by_hand(name: str) -> None:
    """Add what a user may add: tags of a photograph and a label, a field, a saved view, a photograph of their own."""
    import fiftyone as fo

    dataset = fo.load_dataset(name)
    sample = dataset.match(fo.ViewField("image_id") == "e").first()
    sample.tags.append("look")
    sample["note"] = "hm"
    sample.head.tags.append("odd")
    sample.ground_truth.label = "giraffe"
    sample.save()
    dataset.save_view("mine", dataset.match_tags("look"))
    dataset.add_sample(fo.Sample(filepath="/nowhere/theirs.png", tags=["test"]))
    dataset.delete_samples(dataset.match(fo.ViewField("image_id") == "h"))


def add_strangers(name: str) -> None:
    import fiftyone as fo

    fo.Dataset(f"{name}-stranger", persistent=True)
    dataset = fo.load_dataset(name)
    dataset.delete_saved_view("test")
    dataset.save_view("Test", dataset.limit(1), description="mine")


def add_twice(name: str) -> None:
    import fiftyone as fo

    fo.load_dataset(name).add_sample(fo.Sample(filepath="/nowhere/theirs.png", image_id="a"))


def fail_to_connect() -> BaseException | None:
    """The error of `connect` where no database listens, in a process forked before this one has connected."""
    import fiftyone as fo

    own = fo.config.database_uri
    fo.config.database_uri = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        error = pool.submit(fiftyone_setup.connect, "this test").exception()
    fo.config.database_uri = own
    return error


def limit_is_heeded() -> bool:
    import inspect

    import fiftyone.brain.internal.core.sklearn as neighbours

    return "<= _MAX_PRECOMPUTE_DISTS" in inspect.getsource(neighbours.NeighborsHelper)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database of the tests' own: its port."""
    with own_database(tmp_path_factory.mktemp("fiftyone")) as port:
        yield port


@pytest.fixture(scope="module")
def worker(database):
    """Runs a function of this module in a process with FiftyOne and a database of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.fixture(scope="module")
def explored(worker, tmp_path_factory):
    """A run that was explored once: the result of `explore`, and the contents of the dataset."""
    folder = write_run(tmp_path_factory.mktemp("run"))
    return worker(explore, folder, "explored"), worker(contents, "explored")


@installed
def test_a_database_that_does_not_answer_is_one_line_with_what_to_install(worker):
    error = worker(fail_to_connect)
    assert isinstance(error, ThawError) and str(error).startswith("FiftyOne's database does not answer (")
    assert fiftyone_setup.INSTALL in str(error) and "\n" not in str(error)
    assert fiftyone_setup.DATABASE_PACKAGE in str(error)


@installed
def test_no_other_database_is_used_whatever_runs(database, explored, worker):
    assert worker(joined) == ("127.0.0.1", database, False)


@installed
def test_each_photograph_has_its_label_split_predictions_and_features(explored):
    result, dataset = explored
    assert result["added"] == len(dataset["samples"]) == 12
    for image_id, sample in dataset["samples"].items():
        assert sample["ground_truth"]["label"] == LABELS[image_id]
        assert sample["tags"] == [sample["split"]] == [SPLITS[image_id]]
        np.testing.assert_array_equal(dataset["features"][image_id], feature(image_id).astype(np.float16))
    a = dataset["samples"]["a"]
    assert a["filepath"].endswith("/data/raw/images/a.png") and Path(a["filepath"]).is_absolute()
    assert (a["weight"], a["group"], a["meta_box"], a["license"], a["self_confidence"]) == (
        0.5,
        "a",
        "True",
        "CC0",
        0.01,
    )
    assert (a["metadata"]["width"], a["metadata"]["height"]) == (8, 6)
    c = dataset["samples"]["c"]
    assert c["head"]["label"] == "dog" and c["head"]["confidence"] == pytest.approx(0.7)
    assert c["fine_tuned"]["label"] == "cat" and c["fine_tuned"]["confidence"] == pytest.approx(0.8)


@installed
def test_several_labels_are_classifications_with_what_was_verified_to_be_absent(worker, tmp_path):
    result = worker(explore, write_run(tmp_path, several=True), "several")
    assert (result["added"], result["accuracies"]) == (12, {})
    dataset = worker(contents, "several")

    def labels(sample: str, field: str) -> dict[str, float | None]:
        found = dataset["samples"][sample][field]["classifications"]
        return {one["label"]: one.get("confidence") for one in found}

    assert labels("a", "ground_truth") == {"cat": None, "dog": None} and labels("a", "verified_absent") == {}
    assert labels("b", "ground_truth") == {"dog": None} and labels("b", "verified_absent") == {}
    assert labels("c", "verified_absent") == {"dog": None}
    assert labels("a", "head") == {} and labels("b", "head") == pytest.approx({"cat": 0.1, "dog": 0.9})
    assert set(dataset["views"]) == {*tables.SPLITS, "suspicious labels", "near-duplicates"} and not dataset["counts"]
    assert worker(explore, write_run(tmp_path, several=True), "several")["added"] == 0
    again = worker(contents, "several")
    assert again["samples"]["b"]["head"] == dataset["samples"]["b"]["head"]  # what has not changed is not written


@installed
def test_fiftyone_counts_what_the_predictions_say(explored):
    result, dataset = explored
    assert result["accuracies"] == {
        "head": {"validation": 0.5, "test": 0.5}, "fine_tuned": {"validation": 0.75, "test": 0.75},
    }  # fmt: skip
    counts = {key: matrix.tolist() for key, matrix in dataset["counts"].items()}
    assert counts == {  # rows are the labels cat and dog
        "head_validation": [[1, 1], [1, 1]],
        "head_test": [[1, 1], [1, 1]],
        "fine_tuned_validation": [[1, 1], [0, 2]],
        "fine_tuned_test": [[2, 0], [1, 1]],
    }


@installed
def test_views_show_mistakes_the_surest_first_disagreements_and_doubtful_labels(explored):
    views = explored[1]["views"]
    assert views["train"] == list("abcd") and views["test"] == list("ijkl")
    assert views["train: mistakes of the head"] == ["c"] and not views["train: mistakes of the fine-tuned model"]
    assert views["validation: mistakes of the head"] == ["f", "g"]
    assert views["test: mistakes of the head"] == ["k", "j"]
    assert views["test: the models disagree"] == ["k"]
    assert views["suspicious labels"] == ["a"]


@installed
def test_fiftyone_analyses_the_frozen_features(explored):
    dataset = explored[1]
    assert dataset["map"] == (12, 2)
    assert dataset["views"]["near-duplicates"] == ["j", "k"]
    assert {i: s["near_duplicate_of"] for i, s in dataset["samples"].items() if s["near_duplicate_of"]} == {
        "j": "j", "k": "j",
    }  # fmt: skip
    assert all(0 < sample["uniqueness"] <= 1 for sample in dataset["samples"].values())
    surest = max(dataset["samples"].values(), key=lambda sample: sample["head_mistakenness"])
    assert surest["image_id"] == "k"


@installed
def test_fiftyone_still_has_the_limit_that_keeps_memory_from_growing_with_the_square(worker):
    assert worker(limit_is_heeded)


@installed
def test_an_unchanged_run_writes_nothing(worker, tmp_path):
    folder = write_run(tmp_path / "run")
    first = worker(explore, folder, "unchanged")
    before = worker(contents, "unchanged")
    assert worker(explore, folder, "unchanged") == first | {"added": 0}
    after = worker(contents, "unchanged")
    changed = [
        i for i, s in after["samples"].items() if s["last_modified_at"] != before["samples"][i]["last_modified_at"]
    ]
    assert not changed and after["views"] == before["views"]


@installed
def test_another_run_updates_the_dataset_and_leaves_what_a_person_added(worker, tmp_path):
    folder = write_run(tmp_path / "run", ids="abcdefghij")
    worker(explore, folder, "updated")
    worker(add_by_hand, "updated")
    dog = DOG | {"head": [0.6, *DOG["head"][1:]]}
    write_run(folder, ids="bcdefghijkl", dog=dog, splits=SPLITS | {"e": "train"})
    result = worker(explore, folder, "updated")
    assert (result["added"], result["removed"]) == (3, 1)  # k, l and h, which was deleted by hand; a
    dataset = worker(contents, "updated")
    assert sorted(dataset["samples"]) == [*"bcdefghijkl", "their own"]
    e = dataset["samples"]["e"]
    assert sorted(e["tags"]) == ["look", "train"] and e["note"] == "hm" and e["head"]["tags"] == ["odd"]
    assert e["ground_truth"]["label"] == "cat" and e["split"] == "train" and e["head_validation"] is None
    assert dataset["views"]["mine"] == ["e"] and dataset["views"]["test"] == list("ijkl")
    assert dataset["samples"]["their own"]["tags"] == ["test"]
    assert dataset["samples"]["h"]["uniqueness"] and dataset["views"]["near-duplicates"] == ["j", "k"]
    assert dataset["counts"]["head_test"].tolist() == [[1, 1], [1, 1]]


@installed
def test_a_changed_prediction_is_evaluated_anew(worker, tmp_path):
    folder = write_run(tmp_path / "run")
    worker(explore, folder, "changed")
    write_run(folder, dog=DOG | {"head": [*DOG["head"][:9], 0.9, 0.1, 0.8]})
    result = worker(explore, folder, "changed")
    assert result["accuracies"]["head"] == {"validation": 0.5, "test": 1} and (result["added"], result["removed"]) == (
        0,
        0,
    )
    dataset = worker(contents, "changed")
    assert not dataset["views"]["test: mistakes of the head"]
    assert dataset["samples"]["k"]["head"]["confidence"] == pytest.approx(0.9)
    np.testing.assert_allclose(np.exp(dataset["logits"]["k"]), [0.9, 0.1], rtol=1e-6)


@installed
def test_evaluations_of_a_run_without_folds_go_with_it(worker, tmp_path):
    folder = write_run(tmp_path / "run")
    worker(explore, folder, "folded")
    assert len(worker(contents, "folded")["counts"]) == 4
    for name in ("split.csv", "predictions/predictions.csv"):
        path = folder / "data" / name
        table = pl.read_csv(path, infer_schema=False)
        if name == "split.csv":
            table = table.with_columns(split=pl.lit("train"), fold=pl.Series([str(n % 3) for n in range(len(table))]))
        else:
            table = table.with_columns(split=pl.lit("test"))
        table.write_csv(path)
    assert {*worker(explore, folder, "folded")["accuracies"]["head"]} == {"test"}
    assert {*worker(contents, "folded")["counts"]} == {"head_test", "fine_tuned_test"}


@installed
def test_only_a_dataset_of_this_run_is_touched(worker, tmp_path):
    folder = write_run(tmp_path / "run")
    worker(explore, folder, "owned")
    worker(add_strangers, "owned")
    with pytest.raises(ThawError, match=r"'owned-stranger' was not made by Thaw: .* --name"):
        worker(explore, folder, "owned-stranger")
    assert worker(explore, folder, "owned")["taken"] == ["test"]
    with pytest.raises(ThawError, match="can have the name '-'"):
        worker(explore, folder, "-")
    other = write_run(tmp_path / "other")
    with pytest.raises(ThawError, match=rf"'owned' is that of the run in {folder}: .* --name"):
        worker(explore, other, "owned")
    moved = folder.rename(tmp_path / "moved")
    write_run(moved, "abcdefghijk")  # as a repository of another machine, whose run has other photographs
    with pytest.raises(ThawError, match=rf"'owned' is that of the run in {folder}: .* --name"):
        worker(explore, moved, "owned")
    write_run(moved)
    assert worker(explore, moved, "owned")["added"] == 0
    assert worker(contents, "owned")["samples"]["a"]["filepath"] == str(moved / "data/raw/images/a.png")
    worker(add_twice, "owned")
    with pytest.raises(ThawError, match="'owned' holds the photograph a twice"):
        worker(explore, moved, "owned")


@installed
def test_the_script_serves_the_app_until_ctrl_c_even_where_a_photograph_is_gone(database, tmp_path):
    folder = write_run(tmp_path / "repository")
    (folder / "data/raw/images/b.png").unlink()
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    environment = {name: value for name, value in os.environ.items() if name not in screens}
    process = subprocess.Popen(
        [sys.executable, ROOT / "src/explore.py", "--port", "0"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines = [process.stdout.readline() for _ in range(2)]
    try:
        if not lines[1] and "within FiftyOne's minute" in (errors := process.stderr.read()):
            pytest.skip(errors.splitlines()[-1])  # a limit of FiftyOne's own, which a busy machine reaches
        assert "12 photographs in the FiftyOne dataset 'repository', 12 of them new" in lines[0]
        assert "on test, the head has 50.0%, the fine-tuned model has 75.0% right" in lines[0]
        address = re.search(r"the App is at (http://localhost:\d+)/", lines[1])[1]
        with urllib.request.urlopen(f"{address}/fiftyone") as answer:
            assert json.load(answer)["version"]
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and not rest
    assert (
        errors.startswith("explore: warning: 1 photographs are missing and cannot be shown; the first is /")
        and errors.count("\n") == 1
    )


@pytest.mark.skipif(find_spec("fiftyone") is not None, reason="FiftyOne is installed")
def test_without_fiftyone_one_line_says_what_to_install(tmp_path):
    process = script(write_run(tmp_path), "--no-app")
    assert process.returncode == 1 and not process.stdout
    assert process.stderr == (
        "thaw: src/explore.py needs the package fiftyone: run "
        "`.venv/bin/uv pip install --python .venv/bin/python --require-hashes -r requirements-fiftyone.txt`\n"
    )


def test_a_port_that_is_taken_is_one_line(tmp_path):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        process = script(write_run(tmp_path), "--port", str(port))
    assert process.returncode == 1 and not process.stdout and process.stderr.count("\n") == 1
    assert process.stderr.startswith(f"thaw: the App cannot listen at localhost:{port} (")


def test_without_a_run_one_line_says_how_to_make_one(tmp_path):
    process = script(tmp_path, "--no-app")
    assert process.returncode == 1 and process.stderr.count("\n") == 1
    assert "predictions.csv is missing: run `dvc repro`" in process.stderr


@pytest.mark.parametrize(
    ("stale", "message"),
    [
        (("split.csv", "l,dog,1.0,l,test\n", ""), "predictions and .*split.csv are not of the same run"),
        (("split.csv", "a,cat,0.5,a,train", "a,cat,0.5,a,test"), "are not of the same run"),
        (("split.csv", "a,cat", "a,dog"), "are not of the same run"),
        (("features/rows.csv", "l,0", "m,0"), "rows.csv does not list the photograph l"),
        (("raw/images.csv", "l,dog", "m,dog"), "images.csv does not list the photograph l"),
        (("features/classes.json", '"dog"', '"dog", "emu"'), "head.npy does not fit"),
    ],
)
def test_files_of_different_runs_are_told_apart(stale, message, tmp_path):
    name, old, new = stale
    path = write_run(tmp_path) / "data" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ThawError, match=rf"{message}.*`dvc repro`"):
        read(tmp_path)


def test_a_photograph_that_is_a_link_into_the_cache_keeps_its_name(tmp_path):
    raw = write_run(tmp_path) / "data" / "raw"
    (raw / "images" / "a.png").rename(tmp_path / "0123456789abcdef")  # as cache.type symlink has it
    (raw / "images" / "a.png").symlink_to(tmp_path / "0123456789abcdef")
    assert str(raw.resolve() / "images" / "a.png") in read(tmp_path).table["filepath"].to_list()


def test_with_folds_each_photograph_is_one_of_test(tmp_path):
    folder = write_run(tmp_path / "run", splits=dict.fromkeys(LABELS, "test"))
    split = pl.read_csv(folder / "data/split.csv")
    split.with_columns(split=pl.lit("train"), fold=pl.int_range(pl.len()) % 3).write_csv(folder / "data/split.csv")
    assert read(folder).table["split"].to_list() == ["test"] * len(LABELS)


def test_a_dot_in_the_name_of_a_column_names_no_part_of_a_field():
    table = pl.DataFrame({name: ["x"] for name in (
        "filepath", "image_id", "split", "group", "weight", "self_confidence", "source", "license", "author",
        "landing_url", "width", "height", "label", "head_label", "head_probability", "fine_tuned_label",
        "fine_tuned_probability", "meta_patient.id",
    )})  # fmt: skip
    probabilities = dict.fromkeys(("head", "fine_tuned"), np.ones((1, 2), np.float32))
    run = finished_run.Run(table, ("a", "b"), probabilities, np.ones((1, 2)), np.zeros(1, int))
    assert samples._columns(run)["meta_patient_id"] == ["x"]
    twice = replace(run, table=table.with_columns(meta_patient_id=pl.lit("y")))
    with pytest.raises(ThawError, match=r"meta_patient\.id and meta_patient_id of the photographs are one field"):
        samples._columns(twice)
