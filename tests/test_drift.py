"""New photographs are compared with held-out ones: what differs is found, and what does not raises few alarms."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from dependencies import SRC, closure
from PIL import Image, ImageFilter

from thaw.drift import expected_accuracy, samples, two_sample
from thaw.prediction.deployed_model import Decision

# --- The test of two samples ---


def sample(generator, count, shift=0.0):
    return generator.normal(size=(count, 12)) + 3 + shift * np.eye(12)[0]


def single(*parts):
    return np.arange(sum(map(len, parts)))


def test_of_one_kind_alarms_are_no_more_frequent_than_p_says():
    p = []
    for seed in range(120):
        generator = np.random.default_rng(seed)
        first, second = sample(generator, 40), sample(generator, 15)
        p.append(two_sample.compare(first, second, single(first, second)).p)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) < level + 3 * np.sqrt(level * (1 - level) / len(p))
    assert 0.35 < np.mean(p) < 0.65


def test_of_two_kinds_the_difference_is_found_and_the_oddest_images_are_named():
    generator = np.random.default_rng(0)
    first, second = sample(generator, 80), np.concatenate([sample(generator, 10), sample(generator, 20, shift=4)])
    found = two_sample.compare(first, second, single(first, second))
    assert found.differ and found.p == 0.001 and found.auc > 0.7 > found.chance > 0.5
    assert found.scores[10:].mean() > found.scores[:10].mean()
    again = two_sample.compare(first, second, single(first, second))
    assert (again.auc, again.p, again.scores.tobytes()) == (found.auc, found.p, found.scores.tobytes())


def test_a_burst_of_one_scene_is_no_other_kind():
    generator = np.random.default_rng(3)
    first, scenes = sample(generator, 60), sample(generator, 5)
    second = np.repeat(scenes, 8, axis=0) + generator.normal(0, 0.01, (40, 12))
    bursts = np.concatenate([np.arange(60), 60 + np.repeat(np.arange(5), 8)])
    assert two_sample.compare(first, second, single(first, second)).p <= 0.01
    assert two_sample.compare(first, second, bursts).p > 0.05


def test_of_one_scene_nothing_can_be_told():
    generator = np.random.default_rng(3)
    first = sample(generator, 40)
    burst = np.repeat(sample(generator, 1, shift=9), 30, axis=0)
    found = two_sample.compare(first, burst, np.concatenate([np.arange(40), np.full(30, 40)]))
    assert found.auc == 1 and not found.differ and found.is_too_small
    assert not two_sample.compare(first, burst, single(first, burst)).is_too_small


def test_equal_images_do_not_differ():
    same = np.ones((30, 4))
    found = two_sample.compare(same[:20], same[:10], np.arange(30))
    assert found.auc == pytest.approx(0.5) and found.p == 1


def test_scores_are_those_of_a_regression_that_is_fitted_without_the_fold():
    generator = np.random.default_rng(4)
    x, folds = generator.normal(size=(30, 5)), np.arange(30) % 4
    labels = generator.integers(0, 2, (30, 3)).astype(float)
    hat = x @ x.T @ np.linalg.inv(x @ x.T + 0.7 * np.eye(30))
    scores = two_sample._held_out_scores(hat, labels, folds)
    y = labels - labels.mean(axis=0)
    for fold in range(4):
        train, test = folds != fold, folds == fold
        weights = np.linalg.solve(x[train].T @ x[train] + 0.7 * np.eye(5), x[train].T @ y[train])
        np.testing.assert_allclose(scores[test], x[test] @ weights, atol=1e-9)


def test_the_area_counts_pairs_and_ties_as_half():
    generator = np.random.default_rng(5)
    scores, second = generator.integers(0, 6, (25, 4)).astype(float), generator.integers(0, 2, (25, 4)) == 1
    for column, area in enumerate(two_sample._aucs(scores, second)):
        above, below = scores[second[:, column], column], scores[~second[:, column], column]
        wins = (above[:, None] > below).sum() + (above[:, None] == below).sum() / 2
        assert area == pytest.approx(wins / (len(above) * len(below)))


# --- What else is measured ---


def test_a_darker_or_fainter_picture_is_as_sharp_and_a_blurred_one_less():
    generator = np.random.default_rng(6)
    grey = generator.uniform(0, 255, (64, 64))
    sharp = samples.sharpness(grey)
    assert samples.sharpness(grey * 0.3) == pytest.approx(sharp) == samples.sharpness(grey * 0.5 + 40)
    blurred = np.asarray(Image.fromarray(grey.astype(np.uint8)).filter(ImageFilter.GaussianBlur(2)), float)
    assert samples.sharpness(blurred) < sharp / 2
    assert samples.sharpness(np.full((8, 8), 3.0)) == 0


def test_the_accuracy_to_expect_of_the_held_out_photographs_is_their_own():
    generator = np.random.default_rng(7)
    p = generator.dirichlet((1, 1, 1), 4000)
    labels = np.array([generator.choice(3, p=row) for row in p])  # so that p is calibrated
    found = expected_accuracy.estimate(p, labels, p, Decision())
    right = np.mean(p.argmax(axis=1) == labels)
    assert found.measured == right == pytest.approx(found.threshold) == pytest.approx(found.mean, abs=0.02)
    assert found.measured_low < right < found.measured_high
    unsure = expected_accuracy.estimate(p, labels, (p + 1) / 4, Decision())
    assert unsure.threshold < right - 0.2 and unsure.mean < right - 0.1


def test_the_confidence_is_that_of_the_answer_behind_the_threshold():
    p = np.array([[0.7, 0.3], [0.9, 0.1], [0.4, 0.6]])
    assert expected_accuracy.prediction_confidence(p, Decision(threshold=0.2)) == pytest.approx([0.3, 0.9, 0.6])


# --- The script ---


def draw(folder: Path, count: int, seed: int, change=lambda image: image) -> Path:
    """Draw photographs like those of conftest, from another seed, and change them."""
    generator = np.random.default_rng(seed)
    folder.mkdir()
    for number in range(count):
        height, width = generator.integers(64, 91, size=2)
        y, x = np.mgrid[:height, :width]
        angle, period = generator.uniform(0, 2 * np.pi), generator.uniform(6, 12)
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
        if number % 2:
            wave = np.sin(np.pi * x / period + angle) * np.sin(np.pi * y / period + angle)
        colour, noise = generator.uniform(0.3, 1, size=3), generator.normal(0, 12, size=(height, width, 3))
        pixels = (127 + 60 * wave[..., None] * colour + noise).clip(0, 255).astype(np.uint8)
        change(Image.fromarray(pixels)).save(folder / f"new{number:03}.png")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def compare(run_dir, cache, tmp_path):
    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "src/drift.py", "--cache", cache, "--output", tmp_path / "drift.html", *arguments]
        return subprocess.run(list(map(str, command)), cwd=run_dir, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("alike") / "photographs", 40, seed=11)


@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    """Blurred and darker ones, and files that are no photographs."""
    folder = draw(
        tmp_path_factory.mktemp("unlike") / "blurred <b>&",
        40, 12, lambda image: image.filter(ImageFilter.GaussianBlur(3)).point(lambda value: value // 2),
    )  # fmt: skip
    whole = (folder / "new000.png").read_bytes()
    (folder / "cut <i>.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no photograph")
    return folder


def test_a_second_draw_is_no_other_kind(compare, alike):
    result = compare(alike, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["new"] == 40 and found["unread"] == 0 and found["differ"] is False and found["p"] > 0.01
    assert found["measures"]["brightness"]["new"][1] == pytest.approx(0.5, abs=0.05)
    assert sum(answer["new"] for answer in found["answers"].values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def compared(run_dir, cache, unlike, tmp_path_factory):
    """What was printed about other photographs, as JSON and as lines, and the page, written twice."""
    folder, printed = tmp_path_factory.mktemp("compared"), []
    for number, options in enumerate((["--json"], [])):
        command = [sys.executable, "src/drift.py", "--cache", cache, "--output", folder / f"{number}.html", *options]
        result = subprocess.run([*command, unlike], cwd=run_dir, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        printed.append(result.stdout)
    return json.loads(printed[0]), printed[1], folder / "0.html", folder / "1.html"


def test_other_photographs_are_of_another_kind_and_what_cannot_be_read_is_counted(compared):
    found, lines, _, _ = compared
    assert found["new"] == 40 and found["unread"] == 1 and found["other_files"] == 1
    assert found["differ"] is True and found["p"] == 0.001 and found["auc"] > 0.95
    brightness = found["measures"]["brightness"]
    assert brightness["new"][1] < 0.6 * brightness["held_out"][1] and brightness["unusual"] > 0.9
    assert "they differ from" in lines and "cut <i>.png" in lines and lines.count("\n") >= 7


def test_the_page_fetches_nothing_runs_nothing_and_escapes_names(compared):
    page, again = (path.read_bytes() for path in compared[2:])
    assert page == again
    page = page.decode()
    assert "<script" not in page and not re.search(r"(src|href)=\"(?!data:)", page) and "http://" not in page
    assert "blurred &lt;b&gt;&amp;" in page and "cut &lt;i&gt;.png" in page and "<i>" not in page and "<b>&" not in page
    assert page.count("<img ") == 24 and all(re.findall(r'<img alt="([^"]*)"', page))


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium is installed")
def test_the_page_fits_every_screen(compared, tmp_path):
    address, browser = f"file://{compared[2]}", Browser(tmp_path / "profile")
    try:
        browser.open(address)
        for width in (1280, 390, 320):
            browser.emulate(width, 844, phone=width < 600)
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        assert browser.complaints == []
        assert [requested for requested in browser.requested if not requested.startswith("data:")] == [address]
    finally:
        browser.close()


def test_photographs_of_the_run_itself_are_nothing_new(compare, run_dir, alike, tmp_path):
    result = compare(run_dir / "data/raw/images")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    counts = r"\(\d+ of train, \d+ of validation, \d+ of test\)"
    assert re.search(rf"all \d+ photographs of .* are photographs of this run {counts}", result.stderr)
    assert not (tmp_path / "drift.html").exists()
    mixed = shutil.copytree(alike, tmp_path / "mixed")
    for path in sorted((run_dir / "data/raw/images").iterdir())[:5]:
        shutil.copy(path, mixed / f"old {path.name}")
    found = json.loads(compare(mixed, "--json").stdout)
    assert found["new"] == 40 and sum(found["of_the_run"].values()) == 5


def empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def unread(folder: Path) -> Path:
    (folder / "unread").mkdir()
    for name in "ab":
        (folder / f"unread/{name}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    return folder / "unread"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (empty, "no photograph in this folder"),
        (unread, "unread/a.jpg: damaged"),
        (lambda folder: folder / "elsewhere", "No such file"),
        (lambda folder: draw(folder / "few", 9, 13), "9 new photographs; at least 10 are needed to compare"),
    ],
    ids=["empty", "unread", "missing", "few"],
)
def test_too_little_to_compare_is_one_line(compare, tmp_path, make, words):
    result = compare(make(tmp_path))
    assert result.returncode == 1 and not result.stdout and not (tmp_path / "drift.html").exists()
    [line] = [line for line in result.stderr.splitlines() if "converted" not in line]  # the first run of all says it
    assert line.startswith("thaw: ") and words in line


def test_the_bits_of_deep_photographs_can_be_named(compare, alike, tmp_path):
    deep = shutil.copytree(alike, tmp_path / "deep")
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(deep / "deep.png")
    without, named = (json.loads(compare(deep, "--json", *bits).stdout) for bits in ([], ["--bits", "12"]))
    assert without["new"] == 40 and named["new"] == 41
    refused = compare(deep, "--bits", "7")
    assert refused.returncode == 2 and "--bits: should be from 8 to 16, not 7" in refused.stderr


def test_a_file_of_another_kind_is_not_overwritten(compare, alike, tmp_path):
    (tmp_path / "drift.html").write_text("<p>mine</p>")
    result = compare(alike)
    assert result.returncode == 1 and "would be overwritten" in result.stderr
    assert (tmp_path / "drift.html").read_text() == "<p>mine</p>"


def test_without_a_run_it_is_one_line(source_dir, alike):
    result = subprocess.run([sys.executable, "src/drift.py", alike], cwd=source_dir, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("thaw: models/model.keras is missing")


def test_it_needs_no_keras_and_no_tensorflow():
    heavy = re.compile(r"^(?:import|from) (tensorflow|keras)\b", re.MULTILINE)
    assert not [path for path in closure(SRC / "drift.py", lazy=False) if heavy.search(path.read_text())]
