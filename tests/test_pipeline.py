"""The pipeline's promises, on the real pipeline with drawn photographs: what reruns, what comes out, what survives.

The network is the real one at 32 pixels; the first test waits about a minute for the one run that all share.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from conftest import ROOT, SMALL, scripts_run

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text())
ALL = set(STAGES)

# What a change reruns: the table of docs/reference/reruns.md. The longest name that fits a parameter counts.
RERUNS = {
    "task": ALL - {"inputs", "fingerprints", "backbone"},
    "download": ALL - {"backbone", "fingerprints"},
    "split": ALL - {"inputs", "fingerprints", "backbone", "download"},
    "augment": {"augment", "extract_features", "train_head", "extract_activations", "fine_tune", "evaluate"},
    "image": {"extract_features", "train_head", "extract_activations", "fine_tune", "evaluate"},
    "backbone": {"backbone", "extract_features", "train_head", "extract_activations", "fine_tune", "evaluate"},
    "head": {"train_head", "fine_tune", "evaluate"},
    "backbone.weights": {
        "inputs",
        "backbone",
        "extract_features",
        "train_head",
        "extract_activations",
        "fine_tune",
        "evaluate",
    },
    "head.extend": {"inputs", "train_head", "fine_tune", "evaluate"},
    "fine_tune": {"fine_tune", "evaluate"},
    "fine_tune.freeze_depth": {"extract_activations", "fine_tune", "evaluate"},
    "fine_tune.cache": {"extract_activations", "fine_tune", "evaluate"},
    "evaluate": {"evaluate"},
}


def parameters(section, prefix=""):
    """Every parameter of params.yaml by its dotted name, with its value."""
    for key, value in section.items():
        if isinstance(value, dict):
            yield from parameters(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def row_of(parameter):
    return max((row for row in RERUNS if f"{parameter}.".startswith(f"{row}.")), key=len)


def another(value):
    """A value that is not the given one; DVC compares and does not ask whether it is valid."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case list():
            return value[:-1] or ["x"]
        case None:
            return "x"


def outputs_of(stage):
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def followers(stages):
    """The stages given and all that read, directly or not, what they write.

    Of augmentation.json, only its bytes count: it names a preset, and another head mostly chooses the same one. Nor
    does `each_time.yaml` change with what a parameter names, as long as it names something.
    """
    reads, writes = {}, {}
    for name, stage in STAGES.items():
        writes[name] = outputs_of(stage) - {"models/augmentation.json", "data/inputs/each_time.yaml"}
        reads[name] = set(stage.get("deps", []))
    reached = set(stages)
    for name in STAGES:  # dvc.yaml lists every stage behind those that it reads from
        outputs = {f"{path}/" for earlier in reached for path in writes[earlier]}
        if any(f"{dep}/".startswith(tuple(outputs)) for dep in reads[name]):
            reached.add(name)
    return reached


# --- What reruns ---


def test_a_second_run_runs_nothing(finished):
    before = finished.lock
    assert finished.repro() == []
    assert finished.lock == before


@pytest.mark.parametrize("row", RERUNS)
def test_a_changed_parameter_makes_the_stages_of_the_table_out_of_date(finished_once, monkeypatch, row):
    """By what `dvc status` asks of params.yaml and of commands; what reads from those stages follows by the graph.

    Each parameter of the row is changed alone. (`dvc repro --dry` is no help: it takes what follows for unchanged.)
    """
    from dvc.repo import Repo

    def is_changed(stage) -> bool:
        of_parameters = [dep for dep in stage.deps if Path(dep.fs_path).name == "params.yaml"]
        return stage.changed_stage() or any(dep.status() for dep in of_parameters)

    def changed() -> set[str]:  # without `fingerprints`: the photographs are a person's own, so it runs in any case
        with Repo() as repo:
            return {stage.name for stage in repo.index.stages if is_changed(stage)} - {"fingerprints"}

    monkeypatch.chdir(finished_once.path)
    original = Path("params.yaml").read_text()
    values = dict(parameters(yaml.safe_load(original)))
    assert not changed()
    of_row = [name for name in values if row_of(name) == row]
    assert of_row
    for name in of_row:
        finished_once.set(**{name.replace(".", "__"): another(values[name])})
        stages = changed()
        Path("params.yaml").write_text(original)
        assert stages, name
        assert followers(stages) == RERUNS[row], name


def test_nothing_is_out_of_date_but_the_look_at_the_photographs(finished_once, monkeypatch):
    from dvc.repo import Repo

    monkeypatch.chdir(finished_once.path)
    with Repo() as repo:
        assert set(repo.status()) == {"fingerprints"}  # in every run, since the photographs are a person's own


def test_another_head_runs_the_stages_of_the_table_alone(finished):
    finished.set(head__strengths=[0.003])
    assert finished.repro() == ["train_head", "fine_tune", "evaluate"]


def test_auto_chooses_a_preset_on_validation_and_trains_as_if_it_had_been_named(finished):
    finished.set(augment__preset="auto")
    assert set(finished.repro()) == RERUNS["augment"]
    heads = json.loads((finished.path / "reports" / "head" / "metrics.json").read_text())
    assert {"plain", "upright", "any_way_up"} < set(heads)
    chosen = heads["augmentation"]["preset"]
    assert json.loads((finished.path / "models" / "augmentation.json").read_text()) == {"preset": chosen}
    presets = {name: set(pl.read_csv(finished.path / "data" / name / "rows.csv")["preset"].drop_nulls())
               for name in ("features", "activations")}  # fmt: skip
    assert presets == {"features": {"upright", "any_way_up"}, "activations": {chosen}}

    def head():
        return [out for out in yaml.safe_load(finished.lock)["stages"]["train_head"]["outs"] if "models" in out["path"]]

    by_choice = head()
    finished.set(augment__preset=chosen)
    assert finished.repro("train_head") == ["augment", "extract_features", "train_head"]
    assert head() == by_choice


def test_another_evaluation_runs_evaluate_alone(finished):
    finished.set(evaluate__bins=7)
    assert finished.repro() == ["evaluate"]


def test_a_stage_that_writes_the_same_bytes_reruns_nothing_behind_it(finished):
    finished.set(split__keep_subsets=not DEFAULTS["split"]["keep_subsets"])  # these photographs have no subsets
    assert finished.repro() == ["split"]


def test_where_all_is_frozen_the_features_are_taken_and_not_computed_anew(finished):
    finished.set(fine_tune__freeze_depth="all")
    features, activations = (finished.path / "data" / name / f"{name}.npy" for name in ("features", "activations"))
    marked = np.load(features) + np.float16(1)
    features.unlink()
    np.save(features, marked)
    assert finished.run(sys.executable, "src/extract_activations.py").returncode == 0
    np.testing.assert_array_equal(np.load(activations), marked)


def test_another_size_is_not_taken_out_of_the_run_cache(finished):
    """DVC's run cache does not go by keys named `size` where they stand in a section."""
    finished.set(image__size=40)
    result = finished.dvc("repro", "--single-item", "extract_features")
    assert scripts_run(result.stdout) == ["extract_features"]


def test_another_freeze_depth_runs_its_stages_alone_and_the_way_back_computes_nothing(finished):
    before = finished.lock
    finished.set(fine_tune__freeze_depth="block6")
    assert finished.repro() == ["extract_activations", "fine_tune", "evaluate"]
    assert finished.lock != before
    finished.set(fine_tune__freeze_depth=SMALL["fine_tune.freeze_depth"])
    assert finished.repro() == []
    assert finished.lock == before


def test_without_the_cache_the_outcome_is_the_same(finished):
    before = (finished.path / "reports" / "metrics.json").read_bytes()
    finished.set(fine_tune__cache=False)
    assert finished.repro() == ["extract_activations", "fine_tune", "evaluate"]
    assert len(np.load(finished.path / "data" / "activations" / "activations.npy")) == 0
    assert (finished.path / "reports" / "metrics.json").read_bytes() == before


def test_with_flips_the_answers_are_means_over_mirror_images(finished, monkeypatch):
    from thaw.engines import model_files
    from thaw.engines.keras_setup import keras
    from thaw.heads import registry
    from thaw.images import decoding
    from thaw.prediction import deployed_model

    monkeypatch.chdir(finished.path)
    finished.set(evaluate__test_time_flips="both")
    finished.set(head__strengths=[3e-3], fine_tune__epochs=1, fine_tune__learning_rate=1e-5)  # it is not to be sure
    assert finished.repro() == ["train_head", "fine_tune", "evaluate"]
    model, metadata = model_files.load(Path("models/model.keras"))
    backbone, _ = model_files.load(Path("models/backbone/backbone.keras"))
    frozen, head = (
        keras.Model(backbone.input, backbone.get_layer("features").output),
        registry.load_packed(Path("models/head/head.zip")),
    )
    size = metadata["image"]["size"]
    table = pl.read_csv("data/predictions/predictions.csv")
    paths = dict(pl.read_csv("data/raw/images.csv").select("image_id", "path").iter_rows())
    paths = [Path("data/raw") / paths[image_id] for image_id in table["image_id"]]
    pixels = np.stack([decoding.centre_crop(decoding.fit(decoding.decode(p, size), size, "crop"), size) for p in paths])
    mirrored = [pixels, pixels[:, :, ::-1], pixels[:, ::-1], pixels[:, ::-1, ::-1]]
    mirrored = [np.float32(np.ascontiguousarray(one)) for one in mirrored]
    of_each = {
        "fine_tuned": [model.predict(one, verbose=0) for one in mirrored],
        "head": [head.probabilities(frozen.predict(one, verbose=0)) for one in mirrored],
    }
    expected = {name: np.mean(answers, axis=0) for name, answers in of_each.items()}
    for name, p in expected.items():
        assert abs(p - of_each[name][0]).max() > 0.02, "mirror images are predicted alike, so that this says nothing"
        np.testing.assert_allclose(np.load(f"data/predictions/{name}.npy"), p, atol=5e-3)

    options = ["--cache", "networks", "--far", "0.8", "--json"]
    asked = finished.run(sys.executable, "src/predict.py", *options, *map(str, paths))
    assert asked.returncode == 0, asked.stderr
    printed = [list(json.loads(row)["probabilities"].values()) for row in asked.stdout.splitlines()]
    assert all(json.loads(row)["distance"] >= 0 for row in asked.stdout.splitlines())
    decision = deployed_model.read_decision(Path("models/model.keras"), tuple(metadata["class_names"]))
    np.testing.assert_allclose(printed, decision.calibrate(expected["fine_tuned"]), atol=2e-3)
    assert "not calibrated" not in asked.stderr


@pytest.mark.parametrize("script", [["evaluate.py"], ["predict.py", "--cache", "networks", "photographs/blobs"]])
def test_what_trains_nothing_does_without_tensorflow(finished, script):
    blocked = finished.path / "blocked"
    blocked.mkdir()
    (blocked / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    name, *options = script
    result = finished.run(sys.executable, f"src/{name}", *options, env=os.environ | {"PYTHONPATH": str(blocked)})
    assert result.returncode == 0, result.stderr


def test_tensorflow_alone_comes_to_nearly_the_same(finished):
    metrics = finished.path / "reports" / "metrics.json"
    before = json.loads(metrics.read_text())
    finished.set(image__engine="tensorflow", fine_tune__cache=False)
    assert finished.repro() == ["extract_features", "train_head", "extract_activations", "fine_tune", "evaluate"]
    after = json.loads(metrics.read_text())
    for model in ("head", "fine_tuned"):
        assert after[model]["validation"]["log_loss"] == pytest.approx(
            before[model]["validation"]["log_loss"], rel=0.05
        )


def test_the_first_block_of_another_backbone_with_a_head_of_convolutions_that_thaws_in_steps(finished):
    """The recipe `vgg16-single-block`, smaller and with random weights."""
    result = finished.run(sys.executable, "src/recipe.py", "vgg16-single-block")
    assert result.returncode == 0, result.stderr
    finished.set(
        image__size=32, backbone__weights=None, head__conv_blocks=[8], head__hidden=[16, 8], head__epochs=2,
        fine_tune__freeze_depth=["all", "block1_conv2"],
    )  # fmt: skip
    assert finished.repro()[-1] == "evaluate"
    backbone = json.loads((finished.path / "models" / "backbone" / "backbone.json").read_text())
    assert [cut["layer"] for cut in backbone["cut_points"]] == [
        "block1_conv1",
        "block1_conv2",
        "block1_pool",
        "features",
    ]
    cut = json.loads((finished.path / "data" / "activations" / "cut.json").read_text())
    assert (cut["layer"], cut["thaw"]) == ("block1_conv2", ["features", "block1_conv2"])


def test_a_vision_transformer_is_frozen_thawed_measured_and_deployed(finished):
    finished.set(
        image__size=32, backbone__name="DeiTTi16", backbone__weights=None, augment__copies=1,
        fine_tune__freeze_depth="block11", fine_tune__epochs=1,
    )  # fmt: skip
    assert finished.repro()[-1] == "evaluate"
    assert finished.repro() == []
    activations = np.load(finished.path / "data" / "activations" / "activations.npy", mmap_mode="r")
    assert activations.shape[1:] == (5, 192)  # the class token, and 2 x 2 patches
    report = (finished.path / "reports" / "report.html").read_text()
    assert "keeps no map of where it looked" not in report  # patches that are averaged have one
    photographs = sorted((finished.path / "photographs" / "blobs").iterdir())[:2]
    result = finished.run(sys.executable, "src/predict.py", "--far", "0.5", *map(str, photographs))
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2


def test_a_model_keeps_the_classes_that_it_knows_and_learns_one_more(finished):
    """The recipe `resnet50-more-classes`, with a smaller network whose random weights are in a file of Keras."""
    from PIL import Image

    from thaw.engines import model_files
    from thaw.engines.keras_setup import keras

    (finished.path / "photographs" / "blobs").rename(finished.path / "photographs" / "not stripes")
    for path in (finished.path / "photographs" / "not stripes").iterdir():  # random features tell dark from bright
        Image.open(path).convert("RGB").point(lambda value: value // 8).save(path)
    keras.utils.set_random_seed(1)
    before, generator = keras.applications.MobileNetV2((32, 32, 3), weights=None), np.random.default_rng(1)
    for kernel in [variable for variable in before.variables if len(variable.shape) == 4]:
        inputs = kernel.shape[: 2 if kernel.shape[3] == 1 else 3]  # one channel, if depthwise
        kernel.assign(generator.normal(0, np.sqrt(2 / np.prod(inputs)), kernel.shape))
    before.save_weights(finished.path / "mine.weights.h5")
    finished.set(
        backbone__name="MobileNetV2", backbone__weights="mine.weights.h5", backbone__top=True, head__extend=True,
        fine_tune__freeze_depth="all",
    )  # fmt: skip
    assert finished.dvc("repro", "--single-item", "--force", "download").returncode == 0
    assert "fine_tune" in finished.repro()
    metrics = json.loads((finished.path / "reports" / "metrics.json").read_text())
    test = metrics["extension"]["test"]
    of_test = pl.read_csv(finished.path / "data" / "split.csv").filter(split="test")["label"]
    assert (test["with_new"], test["without_new"]) == ((of_test == "stripes").sum(), (of_test == "not stripes").sum())
    assert test["accuracy_before"] == 0
    assert test["accuracy_after"] == metrics["extension"]["validation"]["accuracy_after"] == 1
    decision = json.loads((finished.path / "models" / "decision.json").read_text())
    with zipfile.ZipFile(finished.path / "models" / "model.keras") as file:
        names = json.loads(file.read("metadata.json"))["class_names"]
    assert len(names) == len(set(names)) == 1001
    assert names[-1] == "stripes"
    model, _ = model_files.load(finished.path / "models" / "model.keras")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    old = model.predict(pixels, verbose=0)[:, :-1]
    np.testing.assert_allclose(
        old / old.sum(axis=1, keepdims=True), before.predict(pixels / 127.5 - 1, verbose=0), rtol=1e-4
    )
    assert decision["class_names"] == names
    assert "are predicted right" in (finished.path / "reports" / "model_card.md").read_text()
    report = (finished.path / "reports" / "report.html").read_text()
    assert "no threshold is chosen" in report  # as decision.json has it
    assert "keeps the temperature" not in report

    finished.set(evaluate__test_time_flips="both")  # what they change is not the new class's doing
    assert finished.repro() == ["evaluate"]
    flipped = json.loads((finished.path / "reports" / "metrics.json").read_text())["extension"]
    for split in ("validation", "test"):
        assert flipped[split]["agreement"] == metrics["extension"][split]["agreement"]
    # One network, asked on two ways: with labels from the mean over all its classes they give the same.
    head, whole = (np.load(finished.path / "data" / "predictions" / f"{name}.npy") for name in ("head", "fine_tuned"))
    np.testing.assert_allclose(head, whole, atol=1e-3)


# --- What comes out ---


ANOTHER_HOST = """
    import os, socket

    os.uname = lambda uname=os.uname(): os.uname_result((uname[0], "nowhere-host", *uname[2:]))
    socket.gethostname = lambda: "nowhere-host"
"""


def curve(run, name: str) -> list[float]:
    """What was logged, step by step, of a number under reports/."""
    return pl.read_csv(run.path / "reports" / f"{name}.tsv", separator="\t")[:, 1].to_list()


def test_a_forced_run_elsewhere_writes_the_same_bytes_and_names_no_place(finished, run_dir, tmp_path, monkeypatch):
    """Another folder of photographs, by its absolute path, another checkout, home, temporary folder, user and host.

    Only `download.folder.path`, the person's own choice, stands in dvc.lock as it stands in params.yaml.
    """
    before = finished.lock
    scores = json.loads((finished.path / "reports" / "fine_tune" / "metrics.json").read_text())
    assert scores["best_epoch"] > 0, "the run trains nothing, so that it says nothing of training"
    assert scores["tera_multiply_adds"] > 0
    assert scores["step"] == scores["best_epoch"]
    for key in ("validation_loss", "validation_loss_calibrated", "train_loss"):  # of the model that is kept
        assert curve(finished, f"fine_tune/plots/metrics/{key}")[scores["best_epoch"] - ("train" in key)] == scores[key]
    heads = json.loads((finished.path / "reports" / "head" / "metrics.json").read_text())
    for training in ("plain", "augmented"):
        tried = pl.read_csv(finished.path / "reports" / "head" / "plots" / "heads.csv").filter(training=training)
        assert heads[training]["validation_loss"] == min(tried["validation_loss"])
    moved = Path(shutil.move(finished.path / "photographs", tmp_path / "nowhere-elsewhere"))
    finished.set(download__folder__path=str(moved))
    for name, value in {"HOME": "nowhere-home", "TMPDIR": "nowhere-tmp", "KERAS_HOME": "nowhere-keras"}.items():
        (tmp_path / value).mkdir()
        monkeypatch.setenv(name, str(tmp_path / value))
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, "nowhere-person")
    (tmp_path / "nowhere-python").mkdir()
    (tmp_path / "nowhere-python" / "sitecustomize.py").write_text(textwrap.dedent(ANOTHER_HOST))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "nowhere-python"))

    lost = keep_files(finished)
    assert set(finished.repro("--force")) == ALL - {"fingerprints"}  # `scripts_run` leaves it out
    assert not lost()
    after = yaml.safe_load(finished.lock)
    for stage in ("inputs", "fingerprints", "download"):
        after["stages"][stage]["params"]["params.yaml"]["download"]["folder"]["path"] = "photographs"
    assert after == yaml.safe_load(before)
    places = [str(path).encode() for path in (tmp_path, run_dir, run_dir.parent, ROOT, sys.prefix)] + [b"nowhere-"]
    outputs = [p for d in ("data", "models", "reports") for p in (finished.path / d).rglob("*") if p.is_file()]
    assert {".csv", ".json", ".keras", ".npy", ".xml", ".bin", ".html", ".tsv"} <= {path.suffix for path in outputs}
    for path in outputs:
        contents = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                contents += [file.read(name) for name in file.namelist()]
        assert not any(place in content for place in places for content in contents), path


def test_no_group_stands_in_two_splits(run_dir):
    split = pl.read_csv(run_dir / "data" / "split.csv")
    assert (split.group_by("group").agg(pl.col("split").n_unique())["split"] == 1).all()
    assert set(split["split"]) == {"train", "validation", "test"}


def test_an_exact_duplicate_shares_the_group_of_its_original(run_dir):
    split = pl.read_csv(run_dir / "data" / "split.csv")
    groups = {
        name: split.filter(pl.col("image_id").str.starts_with(f"{name}-"))["group"].to_list()
        for name in ("again", "blobs01")
    }
    assert len(groups["again"]) == 1
    assert groups["again"] == groups["blobs01"]


def test_a_truncated_photograph_is_left_out_and_listed(run_dir):
    missing = pl.read_csv(run_dir / "data" / "raw" / "missing.csv")
    assert missing["file"].to_list() == ["stripes/cut.jpg"]
    assert "truncated" in missing["reason"][0]
    assert not list((run_dir / "data" / "raw" / "images").glob("cut*"))


def test_a_finished_run_leaves_no_temporary_file(finished):
    assert finished.partials() == []


# --- Mistakes ---


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  learning_rate:", "  learning_rat:", ["fine_tune.learning_rat", "fine_tune.learning_rate"]),
        ("  copies: 2", "  copies: two", ["augment.copies", "a whole number", "'two'"]),
        ("  rotation: null", "  rotation: -5", ["augment.rotation", "not -5", "0"]),
        ("  resize: crop", "  resize: crp", ["image.resize", "'crp'", "did you mean crop"]),
        ("  validation: ", "  validation: 0.9  # ", ["split.validation", "split.test", "below 1"]),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_one_line_before_any_work(fresh, old, new, said):
    path = fresh.path / "params.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    result = fresh.dvc("repro")
    assert_one_line(result, said)
    assert len(scripts_run(result.stdout)) == 1
    assert not [p for d in ("data", "models", "reports") for p in (fresh.path / d).glob("[!.]*")]
    assert fresh.partials() == []


def test_a_freeze_depth_that_is_no_cut_point_names_the_nearest(finished):
    finished.set(fine_tune__freeze_depth="blok5")
    result = finished.dvc("repro")
    assert_one_line(result, ["fine_tune.freeze_depth", "'blok5'", "did you mean block5"])
    assert scripts_run(result.stdout) == ["extract_activations"]


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone__weights": "models/model.keras"},
        {"head__extend": "models/model.keras", "fine_tune__freeze_depth": "all"},
    ],
)
def test_the_model_that_the_pipeline_writes_is_not_what_it_starts_from(finished, changes):
    finished.set(**changes)
    result = finished.dvc("repro")
    assert_one_line(result, ["models/model.keras", "copy it elsewhere"])
    assert scripts_run(result.stdout) == ["inputs"]  # before any other


def assert_one_line(result, said):
    """The run failed, and a single line, which is no traceback, says what `said` lists."""
    assert result.returncode != 0
    ours = [line for line in result.stderr.splitlines() if line and not line.startswith("ERROR: failed to reproduce")]
    assert len(ours) == 1, result.stderr
    assert ours[0].startswith("thaw: ")
    assert [words for words in said if words not in ours[0]] == [], ours[0]


# --- What a person keeps among the outputs ---


def keep_files(checkout):
    """Put a file of a person's own into every folder that is an output or that one lies in; return what lists the lost.

    Not into `data/raw/images`: there it stops the stage, see test_inputs.py.
    """
    outputs = {path for stage in STAGES.values() for path in outputs_of(stage)} - {"data/raw/images"}
    folders = {folder for path in outputs for folder in Path(path).parents} - {Path()}
    folders |= {Path(path) for path in outputs if (checkout.path / path).is_dir()}
    assert len(folders) >= 15
    own = [checkout.path / folder / "mine.txt" for folder in folders]
    for path in own:
        path.write_text("not in DVC's cache")
    return lambda: [path for path in own if not path.exists()]


def test_files_of_a_persons_among_the_outputs_outlive_checkouts_and_the_run_cache(finished):
    """A run of all stages is in `test_a_forced_run_elsewhere_writes_the_same_bytes_and_names_no_place`."""
    lost, before = keep_files(finished), finished.lock
    assert finished.repro() == []  # DVC does not see them
    assert finished.dvc("checkout", "--force").returncode == 0
    assert not lost()
    outputs = ["models/backbone/backbone.bin", "data/features/features.npy", "models/head/head.zip",
               "data/activations/cut.json", "models/model.keras", "data/predictions/head.npy"]  # fmt: skip
    for path in outputs:  # of every stage behind `augment`
        (finished.path / path).unlink()
    assert finished.repro() == []  # out of the run cache
    assert not lost()
    assert all((finished.path / path).exists() for path in outputs)
    assert finished.lock == before


# --- Accidents ---

# At which of its own acts each stage is killed: an event of Python's audit hooks and the path it begins with.
MOMENTS = {
    "inputs": "os.rename data/inputs/.each_time.yaml.partial",
    "download": "open data/.raw.partial/images/stripes1",  # about half of the photographs are there
    "split": "os.rename data/.split.csv.partial",
    "augment": "os.rename reports/.augmentations.jpg.partial",  # the table is in place
    "backbone": "os.rename models/backbone/.new.partial/.backbone.json.partial",  # the networks are written
    "extract_features": "open data/features/.new.partial/features.npy",
    "train_head": "os.rename models/head/.head.zip.partial/files/.head.json.partial",  # kernel and bias are written
    "extract_activations": "os.rename data/activations/.new.partial/.cut.json.partial",  # the array is written
    "fine_tune": "os.rename models/.model.keras.partial",  # the curves are in place
    "evaluate": "os.rename reports/.report.html.partial",  # metrics and plots are in place
}

KILLER = """
    import os, signal, sys

    event, begins = os.environ["KILL_AT"].split(" ", 1)
    # DVC leads the group, and 0 is all of it; a shell may stand between the two.
    target = {"both": 0, "dvc": os.getpgrp(), "stage": os.getpid()}[os.environ["KILLED"]]

    def kill(name, arguments):
        if name == event and str(arguments[0]).startswith(begins):
            os.kill(target, signal.SIGKILL)

    sys.addaudithook(kill)
"""


def kill(checkout, tmp_path, stage, killed, shell="/bin/bash"):
    """Run `dvc repro`, and kill DVC, the stage, or both at the stage's moment; return DVC's exit status."""
    checkout.forget(stage)
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(KILLER))  # Python imports it before it runs a script
    run = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=checkout.path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "KILL_AT": MOMENTS[stage], "KILLED": killed, "SHELL": shell},
        start_new_session=True,
        stdout=(tmp_path / "output").open("w"),  # no pipe: a stage that outlives DVC would keep it open
        stderr=subprocess.STDOUT,
    )
    run.wait(timeout=300)
    assert scripts_run((tmp_path / "output").read_text()) == [stage]
    return run.returncode


@pytest.mark.parametrize("stage", MOMENTS)
def test_a_run_goes_on_after_a_kill_in_mid_write(finished, tmp_path, stage):
    """DVC and the script are killed together while the stage writes: the next run mends it all."""
    before = finished.lock
    assert kill(finished, tmp_path, stage, "both") == -signal.SIGKILL
    assert finished.partials()

    assert finished.repro() == [stage]
    assert finished.lock == before
    assert finished.partials() == []


@pytest.mark.parametrize(
    ("killed", "shell", "status"),
    [("dvc", "/bin/bash", -signal.SIGKILL), ("dvc", "/bin/sh", -signal.SIGKILL), ("stage", "/bin/sh", 255)],
)
def test_a_run_goes_on_after_dvc_or_the_stage_alone_was_killed(finished, tmp_path, killed, shell, status):
    """The stage that outlives DVC for a moment writes nothing beside or after that of the next run."""
    before = finished.lock
    assert kill(finished, tmp_path, "train_head", killed, shell) == status
    assert finished.repro() == ["train_head"]
    assert finished.lock == before
    assert finished.partials() == []


@pytest.fixture
def small_disk(finished):
    """Put folders of the finished run on file systems of their own, as large as their contents and no larger."""
    mounted = []

    def shrink(folder, room):
        path, aside = finished.path / folder, finished.path / f"{folder}-aside"
        path.rename(aside)
        path.mkdir()
        mount = finished.run("mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(path))
        if mount.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {mount.stderr.strip()}")
        mounted.append(path)
        shutil.copytree(aside, path, dirs_exist_ok=True)
        shutil.rmtree(aside)
        resize(path, shutil.disk_usage(path).used + room)
        return lambda: resize(path, 256 * 2**20)

    def resize(path, size):
        finished.run("mount", "-o", f"remount,size={size}", str(path), check=True)

    yield shrink
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)


FULL = ["cannot write", "No space left on device"]
FORESEEN = ["107 outputs of features, 1280 each, need 274 kB of disk", "are free: cut the backbone deeper"]


@pytest.mark.parametrize(
    ("stage", "folder", "output", "room", "said"),
    [
        ("download", "data", "data/raw/images", 100_000, FULL),
        ("split", "data", "data/split.csv", 0, FULL),
        ("augment", "data", "data/augmentations.csv", 0, FULL),
        ("augment", "reports", "reports/augmentations.jpg", 0, FULL),
        ("extract_features", "data", "data/features/features.npy", 100_000, FORESEEN),
        ("train_head", "models", "models/head/head.zip", 8_000, FULL),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    finished, small_disk, stage, folder, output, room, said
):
    before = finished.lock
    finished.forget(stage)
    path = finished.path / output
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make_room = small_disk(folder, room)
    result = finished.dvc("repro")
    assert_one_line(result, said)
    assert "photographs" not in result.stderr  # what cannot be written is the copy, not the original
    assert not path.exists()
    assert finished.partials() == []
    make_room()
    assert finished.repro() == [stage]
    assert finished.lock == before
