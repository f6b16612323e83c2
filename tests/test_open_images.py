"""The source `open_images` with a replica of its servers: what is selected, what arrives, and what fails."""

import email.utils
import errno
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import requests
import yaml
from PIL import Image
from replica import FAULTS, LABELS, Data, Replica

from thaw.core import locks, params
from thaw.core.errors import ThawError
from thaw.images import decoding
from thaw.sources import annotations, fetching, open_images
from thaw.sources.base import UnreachableError
from thaw.sources.collection import attribution, collect
from thaw.sources.fetching import Fetcher
from thaw.sources.open_images import OpenImages

ROOT = Path(__file__).parents[1]
CLASSES = {"/m/0pcr": "Alpaca", "/m/07bgp": "Sheep", "/m/03fwl": "Goat", "/m/01x_v": "Camel"}
ALPACA, SHEEP, GOAT, CAMEL = CLASSES
TRAIN_LABELS = "/v5/train-annotations-human-imagelabels-boxable.csv"
TRAIN_IMAGES = "/2018_04/train/train-images-boxable-with-rotation.csv"


def ids(name: str, count: int) -> list[str]:
    return [hashlib.sha256(f"{name}{n}".encode()).hexdigest()[:16] for n in range(count)]


def labels(name: str, count: int, *verdicts: tuple[str, str]) -> list[tuple[str, str, str]]:
    """Rows for `count` new images, each with all of the verdicts (class id, confidence)."""
    return [(image, class_id, confidence) for image in ids(name, count) for class_id, confidence in verdicts]


def alpacas(count: int = 12) -> Data:
    rows = [*labels("alpaca", count, (ALPACA, "1")), *labels("none", count, (ALPACA, "0"))]
    rows += [*labels("guess", 5, (ALPACA, "0.7")), *labels("sheep", count, (SHEEP, "1"), (ALPACA, "0"))]
    return Data(CLASSES, {"train": rows})


def parameters(replica: Replica, cache: Path, **changes) -> OpenImages:
    """The parameters of params.yaml for a replica, its cache and subset `train`, with `changes`."""
    default = params.load(ROOT / "params.yaml").download.open_images.model_dump()
    own = {"annotations_url": replica.url, "images_url": replica.url, "cache_dir": str(cache), "subsets": ["train"]}
    return OpenImages.model_validate({**default, **own, **changes})


def select(replica: Replica, cache: Path, **changes) -> dict[str, list[str]]:
    """The ids of the usable candidates of each class in their order, up to the cap."""
    chosen = parameters(replica, cache, **changes)
    usable = [image for image in open_images.find(chosen, Fetcher(pause=0.01)).images if not image.left_out]
    return {
        label: [image.image_id for image in usable if image.label == label][: chosen.max_per_class]
        for label in {image.label for image in usable}
    }


def download(replica: Replica, folder: Path, timeout: float = 20.0, **changes):
    """What the stage makes below `folder`, with short pauses: the tables of images, missing ones and attribution."""
    chosen = parameters(replica, folder / "cache", **changes)
    fetcher = Fetcher(chosen.workers, timeout=timeout, pause=0.01)
    listing = open_images.find(chosen, fetcher)
    table, missing = collect(listing, folder / "raw")
    return table, missing, attribution(table, listing.images)


def workspace(folder: Path, replica: Replica, **changes) -> Path:
    """A folder to run the stage in as a process."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"]["source"] = "open_images"
    values["download"]["open_images"] = parameters(replica, folder / "cache", **changes).model_dump()
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    return folder


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "src/download.py")]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# What is selected


def test_positives_are_verified_to_show_the_class_and_negatives_not_to(tmp_path):
    with Replica(alpacas()) as replica:
        chosen = select(replica, tmp_path, max_per_class=None)
    assert set(chosen) == {"Alpaca", "not Alpaca"}
    assert set(chosen["Alpaca"]) == set(ids("alpaca", 12))
    assert set(chosen["not Alpaca"]) == {*ids("none", 12), *ids("sheep", 12)}


def test_negatives_of_a_list_show_one_of_them_and_not_the_target(tmp_path):
    data = Data(CLASSES, {"train": [
        *labels("alpaca", 4, (ALPACA, "1")), *labels("sheep", 4, (SHEEP, "1")), *labels("goat", 4, (GOAT, "1")),
        *labels("both", 4, (ALPACA, "1"), (SHEEP, "1")), *labels("camel", 4, (CAMEL, "1")),
        *labels("neither", 4, (SHEEP, "0")),
    ]})  # fmt: skip
    with Replica(data) as replica:
        chosen = select(replica, tmp_path, negatives=["Sheep", "Goat"])
        table, _, _ = download(replica, tmp_path, negatives=["Sheep", "Goat"])
    assert set(chosen["Alpaca"]) == {*ids("alpaca", 4), *ids("both", 4)}
    assert set(chosen["not Alpaca"]) == {*ids("sheep", 4), *ids("goat", 4)}
    assert set(table["meta_shows"]) == {"Alpaca", "Alpaca + Sheep", "Sheep", "Goat"}


def test_an_image_of_two_target_classes_is_left_out_and_counted(tmp_path):
    data = Data(CLASSES, {"train": [
        *labels("alpaca", 4, (ALPACA, "1")), *labels("sheep", 4, (SHEEP, "1")),
        *labels("both", 3, (ALPACA, "1"), (SHEEP, "1")),
    ]})  # fmt: skip
    with Replica(data) as replica:
        table, missing, _ = download(replica, tmp_path, classes=["Sheep", "Alpaca"], negatives=None)
    assert set(table["image_id"]) == {*ids("alpaca", 4), *ids("sheep", 4)}
    assert dict(missing.select("file", "reason").iter_rows()) == {
        f"train/{i}.jpg": "verified to show two of the classes" for i in ids("both", 3)
    }


def test_an_image_verified_both_ways_is_left_out_and_counted(tmp_path):
    data = alpacas()
    data.labels["train"] += labels("alpaca", 2, (ALPACA, "0"))
    with Replica(data) as replica:
        table, missing, _ = download(replica, tmp_path)
    assert set(table.filter(label="Alpaca")["image_id"]) == set(ids("alpaca", 12)) - set(ids("alpaca", 2))
    assert set(missing["reason"]) == {"verified both to show its class and not to"} and len(missing) == 2


def test_a_larger_cap_adds_images_and_removes_none(tmp_path):
    with Replica(alpacas(40)) as replica:
        smaller = select(replica, tmp_path, max_per_class=10)
        larger = select(replica, tmp_path, max_per_class=25)
    for label in smaller:
        assert len(smaller[label]) == 10
        assert larger[label][:10] == smaller[label]


def test_the_seed_changes_the_choice(tmp_path):
    with Replica(alpacas(40)) as replica:
        assert select(replica, tmp_path, max_per_class=10) != select(replica, tmp_path, max_per_class=10, seed=2)


def test_the_choice_does_not_depend_on_the_order_of_the_tables(tmp_path):
    data = alpacas(40)
    with Replica(data) as replica:
        before = select(replica, tmp_path / "a", max_per_class=10)
        random.Random(0).shuffle(data.labels["train"])
        replica.files = data.files()
        assert select(replica, tmp_path / "b", max_per_class=10) == before


def test_an_empty_a_half_full_and_a_full_cache_give_the_same_bytes(tmp_path):
    with Replica(alpacas(20)) as replica:
        for name in ("empty", "half"):
            download(replica, tmp_path / name, max_per_class=15)
        cached = sorted((tmp_path / "half/cache").rglob("*.jpg"))
        for path in cached[::2]:
            path.unlink()
        shutil.rmtree(next((tmp_path / "half/cache").rglob("images-train")))
        expected = contents(tmp_path / "empty/raw")
        for name in ("empty", "half"):
            (tmp_path / name / "raw").rename(tmp_path / name / "first")
            download(replica, tmp_path / name, max_per_class=15)
            assert contents(tmp_path / name / "raw") == expected
        assert sum("Alpaca" in line for line in (tmp_path / "half/raw/images.csv").read_text().splitlines()) == 30


def test_another_class_reads_the_cached_tables_not_the_net(tmp_path):
    with Replica(alpacas()) as replica:
        select(replica, tmp_path)
        replica.requests.clear()
        chosen = select(replica, tmp_path, classes=["Sheep", "Alpaca"], negatives=None)
        assert set(chosen) == {"Sheep", "Alpaca"} and not replica.requests


def test_two_addresses_do_not_share_a_table(tmp_path):
    with Replica(alpacas()) as first, Replica(alpacas(5)) as other:
        select(first, tmp_path)
        assert len(select(other, tmp_path)["Alpaca"]) == 5


# What arrives


def test_the_rotation_of_the_image_table_is_applied(tmp_path):
    data = alpacas(4)
    rotations = dict(zip(sorted(ids("alpaca", 4)), ["90.0", "180.0", "270.0", "0.0"], strict=True))
    data.rotations = rotations
    with Replica(data) as replica:
        table, _, _ = download(replica, tmp_path)
    corners = {"90.0": (-1, 0), "180.0": (-1, -1), "270.0": (0, -1), "0.0": (0, 0)}  # of what was at the top left
    for row in table.filter(label="Alpaca").iter_rows(named=True):
        path, rotation = tmp_path / "raw" / row["path"], rotations[row["image_id"]]
        pixels = decoding.decode(path)
        size = (48, 32) if rotation in ("90.0", "270.0") else (32, 48)
        assert pixels.shape[:2] == (row["height"], row["width"]) == size
        red, green, _ = pixels[corners[rotation]].astype(int)
        assert red > 200 and green < 60
        with Image.open(path) as image:
            assert image.getexif().get(0x0112, 1) == 1
    upright = next(image for image, rotation in rotations.items() if rotation == "0.0")
    assert (tmp_path / f"raw/images/{upright}.jpg").read_bytes() == data.photograph(f"train/{upright}")


def test_an_unknown_rotation_leaves_the_image_out(tmp_path):
    data = alpacas()
    data.rotations = {ids("alpaca", 1)[0]: "45"}
    with Replica(data) as replica:
        _, missing, _ = download(replica, tmp_path)
    assert missing["reason"].to_list() == ["its rotation is no quarter turn"]


def test_licence_author_and_landing_page_are_recorded_and_attributed(tmp_path):
    with Replica(alpacas()) as replica:
        table, _, credits = download(replica, tmp_path)
    row = table.row(0, named=True)
    assert row["license"] == "https://creativecommons.org/licenses/by/2.0/"
    assert row["author"] == f"Ann, {row['image_id']}"
    assert row["landing_url"] == f"https://www.flickr.com/photos/x/{row['image_id']}"
    assert credits["image_id"].equals(table["image_id"])
    assert credits.row(0, named=True) == {
        "image_id": row["image_id"],
        "title": f'A "fine" day,\nwith {row["image_id"]}',
        "author": row["author"],
        "author_url": "https://www.flickr.com/people/x/",
        "license": row["license"],
        "landing_url": row["landing_url"],
        "source": "open_images",
    }


def test_images_that_are_gone_or_broken_are_replaced_by_the_next_and_listed(tmp_path):
    with Replica(alpacas(20)) as replica:
        order = select(replica, tmp_path / "cache", max_per_class=None)["Alpaca"]
        faults = {f"/train/{order[0]}.jpg": "404", f"/train/{order[2]}.jpg": "403", f"/train/{order[3]}.jpg": "damaged"}
        faults[f"/train/{order[10]}.jpg"] = "html"  # which is itself a replacement
        replica.fault = lambda path, count: faults.get(path)
        table, missing, _ = download(replica, tmp_path, max_per_class=10)
    assert set(table.filter(label="Alpaca")["image_id"]) == {order[1], *order[4:10], *order[11:14]}
    reasons = dict(missing.select("file", "reason").iter_rows())
    assert reasons == {
        f"train/{order[0]}.jpg": "gone from the server",
        f"train/{order[2]}.jpg": "gone from the server",
        f"train/{order[3]}.jpg": "broken: does not decode",
        f"train/{order[10]}.jpg": "broken: HTML",
    }
    assert pl.read_csv(tmp_path / "raw/missing.csv").equals(missing)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_costs_no_photograph(fault, tmp_path):
    with Replica(alpacas(6), lambda path, count: fault if path.endswith(".jpg") and count == 1 else None) as replica:
        table, missing, _ = download(replica, tmp_path, timeout=0.2)
        assert len(table) == 18 and not len(missing)
        for row in table.iter_rows(named=True):
            stored = (tmp_path / "raw" / row["path"]).read_bytes()
            assert stored == replica.data.photograph(f"train/{row['image_id']}")
            assert hashlib.sha256(stored).hexdigest() == row["sha256"]


def test_retry_after_is_waited_for(tmp_path):
    with Replica(alpacas(3), lambda path, count: "429" if count == 1 else None) as replica:
        replica.retry_after = "1"
        start_time = time.monotonic()
        Fetcher(pause=0.0).get(replica.url + TRAIN_LABELS)
        assert time.monotonic() - start_time >= 1


def retry_after(header: str) -> float:
    response = requests.Response()
    response.headers["Retry-After"] = header
    return fetching._retry_after(response)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7), (" 7 ", 7), ("0", 0), ("", 0), ("soon", 0), ("-3", 0), ("86400", fetching.MAX_RETRY_AFTER),
        pytest.param("9" * 5000, 0, id="5000 digits"), ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date_and_has_a_limit(header, seconds):
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date_to_come():
    assert 190 < retry_after(email.utils.formatdate(time.time() + 200, usegmt=True)) <= 200


@pytest.mark.parametrize("fault", ["reset", "truncated", "stall"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_table_that_breaks_off_goes_on_where_it_stopped(fault, ranges, tmp_path, monkeypatch):
    monkeypatch.setattr(annotations, "BLOCK_BYTES", 1000)
    with Replica(alpacas(200)) as replica:
        expected = select(replica, tmp_path / "undisturbed")
        replica.has_ranges = ranges
        replica.fault = lambda path, count: fault if count <= 3 and path in (TRAIN_LABELS, TRAIN_IMAGES) else None
        chosen = parameters(replica, tmp_path / "broken")
        listing = open_images.find(chosen, Fetcher(timeout=0.2, pause=0.01))
        assert replica.requests[TRAIN_LABELS] == 4  # the first for `expected`
        assert replica.ranges
    assert [image.image_id for image in listing.images if image.label == "Alpaca"][:200] == expected["Alpaca"]


def breaking_off(replica: Replica, answer: str):
    """The fault of a table that breaks off once, after which every request for the rest has that answer."""
    return lambda path, count: (answer if replica.ranges else "truncated") if path == TRAIN_LABELS else None


@pytest.mark.parametrize(("answer", "message"), [("503", "broke off at byte"), ("403", "is not there")])
def test_a_table_whose_download_was_given_up_goes_on_in_the_next_run(answer, message, tmp_path, monkeypatch):
    monkeypatch.setattr(annotations, "BLOCK_BYTES", 1000)
    with Replica(alpacas(200)) as replica:
        expected = select(replica, tmp_path / "undisturbed")
        replica.fault = breaking_off(replica, answer)
        with pytest.raises(ThawError, match=message):
            select(replica, tmp_path / "broken")
        assert list((tmp_path / "broken").rglob("*.parquet"))
        assert not list((tmp_path / "broken").rglob("labels-train"))
        replica.fault = lambda path, count: None
        replica.ranges.clear()
        assert select(replica, tmp_path / "broken") == expected
        size = len(replica.files[TRAIN_LABELS])
        assert len(replica.ranges) == 1 and int(replica.ranges[0].strip("bytes=-")) > size // 3


def test_refusals_between_parts_that_arrive_do_not_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(annotations, "BLOCK_BYTES", 1000)
    with Replica(alpacas(200)) as replica:
        expected = select(replica, tmp_path / "undisturbed")
        requests_before = replica.requests[TRAIN_LABELS]
        faults = ["truncated", "403", "truncated", "403", "truncated", "403", "truncated"]
        at = dict(enumerate(faults, requests_before + 1))
        replica.fault = lambda path, count: at.get(count) if path == TRAIN_LABELS else None
        assert select(replica, tmp_path / "broken") == expected
        assert replica.requests[TRAIN_LABELS] == requests_before + len(faults) + 1


def test_a_table_that_changed_meanwhile_is_fetched_from_its_start(tmp_path, monkeypatch):
    monkeypatch.setattr(annotations, "BLOCK_BYTES", 1000)
    with Replica(alpacas(200)) as replica:
        replica.fault = breaking_off(replica, "503")
        with pytest.raises(ThawError, match="broke off at byte"):
            select(replica, tmp_path)
        replica.fault = lambda path, count: None
        replica.files = alpacas(150).files()
        assert len(select(replica, tmp_path)["Alpaca"]) == 150


def test_killed_at_random_the_result_is_the_same_bytes(tmp_path):
    rng = random.Random(3)
    faults = ("404", "403", "429", "503", "reset", "truncated", "damaged")
    with Replica(alpacas(60)) as replica:
        undisturbed = workspace(tmp_path / "undisturbed", replica)
        output, error = start(undisturbed).communicate()
        assert not error and "180 photographs from open_images: 120 not Alpaca, 60 Alpaca" in output
        killed = workspace(tmp_path / "killed", replica)
        replica.delay = 0.1
        replica.fault = lambda path, count: rng.choice(faults) if rng.random() < 0.05 else None
        kills = 0
        for arrived in (1, 30, 80):  # killed when so many photographs are there
            process = start(killed)
            while process.poll() is None and len(list(killed.rglob("cache/*/train/*.jpg"))) < arrived:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            assert not (killed / "data/raw").exists()
        replica.delay = 0.0
        process = start(killed)
        process.communicate()
    assert process.returncode == 0 and kills == 3
    assert contents(killed / "data/raw") == contents(undisturbed / "data/raw")
    assert contents(killed / "reports") == contents(undisturbed / "reports")
    assert not list((killed / "data").glob(".*"))


def test_a_second_download_into_the_cache_waits_for_the_first(tmp_path):
    with Replica(alpacas()) as replica:
        folder = workspace(tmp_path / "second", replica)
        with open_images.lock(parameters(replica, folder / "cache")):
            process = start(folder)
            assert "waiting for another download" in process.stdout.readline()
            assert not replica.requests
        output, _ = process.communicate()
        assert process.returncode == 0 and "36 photographs" in output


# What fails


def failing(replica: Replica, folder: Path, **changes) -> str:
    """Return the error, one line, after which there is no output."""
    try:
        download(replica, folder, **changes)
    except ThawError as error:
        assert "\n" not in str(error)
        assert not list(folder.rglob("*.partial"))
        assert not (folder / "raw/images.csv").exists()
        return str(error)
    raise AssertionError("no error")


def test_a_class_that_does_not_exist_suggests_the_nearest(tmp_path):
    with Replica(alpacas()) as replica:
        assert "no boxable class 'Alpacca' (did you mean Alpaca?)" in failing(replica, tmp_path, classes=["Alpacca"])
        assert "no boxable class 'sheep' (did you mean Sheep" in failing(replica, tmp_path, negatives=["sheep"])
        assert replica.requests[TRAIN_LABELS] == 0


def test_a_class_without_a_verified_label_in_the_subsets(tmp_path):
    data = alpacas()
    data.labels["test"] = labels("guess", 3, (CAMEL, "0.9"))
    with Replica(data) as replica:
        message = failing(replica, tmp_path, classes=["Camel", "Alpaca"], negatives=None, subsets=["train", "test"])
    assert message == "the class 'Camel' has no photograph in train and test that people verified to show it alone"


def test_negatives_that_leave_nothing(tmp_path):
    with Replica(Data(CLASSES, {"train": labels("alpaca", 5, (ALPACA, "1"))})) as replica:
        assert "leave nothing: no photograph in train is verified not to show it" in failing(replica, tmp_path)
        message = failing(replica, tmp_path, negatives=["Goat", "Camel"])
        assert "leave nothing: no photograph in train is verified to show Goat or Camel and not it" in message


def test_a_class_that_falls_below_what_a_split_needs(tmp_path):
    with Replica(alpacas(6)) as replica:
        order = select(replica, tmp_path / "cache")["Alpaca"]
        replica.fault = lambda path, count: "404" if path.split("/")[-1][:-4] in order[:4] else None
        message = failing(replica, tmp_path)
    assert message == "the class 'Alpaca' has only 2 photographs left (gone from the server): a split needs 3 or more"


@pytest.mark.parametrize("path", ["/v5/class-descriptions-boxable.csv", TRAIN_LABELS, TRAIN_IMAGES])
def test_a_mirror_that_answers_with_html(path, tmp_path):
    with Replica(alpacas(), lambda requested, count: "html" if requested == path else None) as replica:
        message = failing(replica, tmp_path)
        assert message.startswith(f"{replica.url}{path} is HTML, not the ")
        replica.fault = lambda path, count: None
        assert len(select(replica, tmp_path / "cache")["Alpaca"]) == 12  # nothing of it was kept


@pytest.mark.parametrize("path", ["/v5/class-descriptions-boxable.csv", TRAIN_LABELS, TRAIN_IMAGES])
def test_a_mirror_without_the_tables(path, tmp_path):
    with Replica(alpacas(), lambda requested, count: "404" if requested == path else None) as replica:
        message = failing(replica, tmp_path)
    assert message.startswith(f"{replica.url}{path} is not there: download.open_images.annotations_url")


@pytest.mark.parametrize("header", ["", "ImageID,LabelName,Source,Confidence", "id,label", LABELS + ",Extra"])
def test_a_table_whose_header_is_another(header, tmp_path):
    with Replica(alpacas()) as replica:
        replica.files[TRAIN_LABELS] = replica.files[TRAIN_LABELS].replace(LABELS.encode(), header.encode())
        assert f"not the table with the columns {LABELS}" in failing(replica, tmp_path)


@pytest.mark.parametrize("path", [TRAIN_LABELS, TRAIN_IMAGES])
def test_a_table_cut_short(path, tmp_path):
    with Replica(alpacas()) as replica:
        replica.files[path] = replica.files[path][:-8]
        assert f"{replica.url}{path} is cut short: its last line is" in failing(replica, tmp_path)


def test_an_empty_table(tmp_path):
    with Replica(alpacas()) as replica:
        replica.files[TRAIN_LABELS] = b""
        assert "is empty, not the table" in failing(replica, tmp_path)


def test_a_label_without_a_confidence(tmp_path):
    with Replica(alpacas()) as replica:
        replica.files[TRAIN_LABELS] += b"0123456789abcdef,verification,/m/0pcr,yes\n"
        assert "the label '0123456789abcdef,/m/0pcr,yes' has no confidence" in failing(replica, tmp_path)


@pytest.mark.parametrize("image_id", ["../x", "a/b", "..", "", "a b", "x" * 300])
def test_an_id_that_would_escape_the_folder(image_id, tmp_path):
    data = alpacas()
    data.labels["train"] += [(image_id, ALPACA, "1")]
    with Replica(data) as replica:
        assert f"the image id {image_id!r}, which is not safe as a file name" in failing(replica, tmp_path)


def test_a_server_out_of_order_ends_the_download(tmp_path):
    with Replica(alpacas(60), lambda path, count: "html" if path.endswith(".jpg") else None) as replica:
        message = failing(replica, tmp_path)
        assert message.startswith("50 files in a row failed, the last being http://127.0.0.1:")
        assert sum(replica.requests.values()) < 300


def test_gone_photographs_among_those_of_a_warm_cache_end_no_download(tmp_path):
    gone = set(ids("alpaca", 300)[::5])
    fault = lambda path, count: "404" if path.rpartition("/")[2].removesuffix(".jpg") in gone else None  # noqa: E731
    with Replica(alpacas(300), fault) as replica:
        for _ in range(2):  # into an empty cache, and again into one that has all but the gone ones
            table, missing, _ = download(replica, tmp_path, max_per_class=None)
            assert (len(table), len(missing)) == (840, 60)
            shutil.rmtree(tmp_path / "raw")


def test_a_photograph_that_the_server_fails_at_is_replaced_by_no_other(tmp_path):
    """It may arrive the next time: then another photograph would be in its place."""
    with Replica(alpacas()) as replica:
        first, second = ids("alpaca", 12)[:2]
        replica.fault = lambda path, count: "503" if path.endswith((f"{first}.jpg", f"{second}.jpg")) else None
        message = failing(replica, tmp_path, max_per_class=None)
        assert f"{first}.jpg: the server failed at it each time" in message or f"{second}.jpg: the" in message
        assert message.endswith(" (and 1 more); run again to go on with what has arrived")
        before = sum(count for path, count in replica.requests.items() if path.endswith(".jpg"))
        replica.fault = lambda path, count: None
        shutil.rmtree(tmp_path / "raw")
        table, missing, _ = download(replica, tmp_path, max_per_class=None)
        after = sum(count for path, count in replica.requests.items() if path.endswith(".jpg"))
    assert len(table) == 36 and not len(missing) and after - before == 2


def test_a_list_of_classes_whose_server_fails_is_named(tmp_path):
    fault = lambda path, count: "503" if "class-descriptions" in path else None  # noqa: E731
    with Replica(alpacas(), fault) as replica:
        message = failing(replica, tmp_path)
    assert message.startswith(f"{replica.url}/v5/class-descriptions-boxable.csv: the server failed at it each time")


def test_a_cache_without_locks_is_used_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with Replica(alpacas()) as replica, open_images.lock(parameters(replica, tmp_path / "cache")):
        assert (tmp_path / "cache").is_dir()


def test_no_network_names_the_host_and_the_ways_out(tmp_path):
    with Replica(alpacas()) as replica:
        folder = workspace(tmp_path / "clone", replica)
    process = start(folder)
    output, error = process.communicate()
    assert process.returncode == 1 and not output and error.count("\n") == 1
    host = replica.url.removeprefix("http://")
    assert error.startswith(f"thaw: {host} was not reached (")
    assert "download.source: elpv" in error and "dvc pull" in error
    assert not (folder / "data/raw").exists()


def test_the_network_lost_on_the_way_keeps_what_arrived(tmp_path):
    with Replica(alpacas()) as replica:
        select(replica, tmp_path / "cache")
        chosen = parameters(replica, tmp_path / "cache")
    fetcher = Fetcher(4, pause=0.01)
    listing = open_images.find(chosen, fetcher)
    with pytest.raises(UnreachableError, match="was not reached"):
        collect(listing, tmp_path / "raw")


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with Replica(alpacas()) as replica:
        process = start(workspace(tmp_path / "clone", replica, cache_dir=str(tmp_path / "file/cache")))
    _, error = process.communicate()
    assert process.returncode == 1 and error.count("\n") == 1
    assert "download.open_images.cache_dir" in error and "cannot be made" in error


def test_a_damaged_file_in_the_cache_is_fetched_anew(tmp_path):
    with Replica(alpacas()) as replica:
        download(replica, tmp_path)
        expected = contents(tmp_path / "raw")
        (tmp_path / "raw").rename(tmp_path / "first")
        path = min((tmp_path / "cache").rglob("*.jpg"))
        path.write_bytes(path.read_bytes()[:200])
        download(replica, tmp_path)
        assert contents(tmp_path / "raw") == expected
        table = next((tmp_path / "cache").rglob("labels-train"))
        part = min(table.glob("*.parquet"))
        part.write_bytes(part.read_bytes()[:100])
        (tmp_path / "raw").rename(tmp_path / "second")
        assert f"the tables in {table.parent} cannot be read" in failing(replica, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negatives": None}, "negatives must be verified or a list of classes"),
        ({"classes": ["Alpaca", "Sheep"]}, "negatives must be null where classes names two or more"),
        ({"negatives": "some"}, "negatives should be verified, a list of classes or null, not 'some'"),
        ({"negatives": ["Alpaca"]}, "names 'Alpaca' more than once"),
        ({"subsets": ["train", "train"]}, "names 'train' more than once"),
        ({"annotations_url": "ftp://x"}, "download.open_images.annotations_url"),
        ({"max_per_class": 2}, "download.open_images.max_per_class"),
        ({"workers": 0}, "download.open_images.workers"),
    ],
)
def test_parameters_are_checked_before_any_work(changes, message, tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["download"]["open_images"].update(changes)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ThawError, match=message):
        params.load(tmp_path / "params.yaml")
