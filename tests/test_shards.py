"""Photographs in shards (`download.shards`), and the one door through which all stages and scripts read them."""

import filecmp
import json
import pickle
import shutil
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from conftest import ROOT
from PIL import ExifTags, Image

import bring_out
from thaw.core import params, store, tables
from thaw.core.errors import ThawError
from thaw.exports import check_images
from thaw.guide import survey
from thaw.images import decoding
from thaw.inputs import outputs
from thaw.labelling import hand_over
from thaw.prediction import deployed_model, ood, stream
from thaw.serving.training_photographs import TrainingPhotographs
from thaw.sources import shards
from thaw.sources.base import DatasetInfo, Listing, SourceImage
from thaw.sources.collection import collect, collected
from thaw.splitting import times

INFO = DatasetInfo("test", "CC BY 4.0", "A. Uthor", ("cat", "dog"))
LONG = "x" * 110  # a name that one block of header does not hold


def draw(folder: Path, count: int = 12) -> list[SourceImage]:
    """Draw photographs of noise, of two classes, of which one has a long name."""
    folder.mkdir(exist_ok=True)
    images = []
    for number in range(count):
        image_id = LONG if number == 3 else f"p{number:02}"
        path = folder / f"{image_id}.{'png' if number % 2 else 'jpg'}"
        pixels = np.random.default_rng(number).integers(0, 256, (9, 6 + number, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        images.append(SourceImage(image_id, path, INFO.classes[number % 2]))
    return images


def refusal(call, *arguments) -> str:
    with pytest.raises(ThawError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small(monkeypatch):
    """Shards of a few photographs each."""
    monkeypatch.setattr(shards, "MEAN_BYTES", 2000)


@pytest.fixture
def packed(small, tmp_path) -> Path:
    """A raw data folder whose photographs are in several shards; those of `files` are in files."""
    images = draw(tmp_path / "photographs")
    collect(Listing(INFO, images), tmp_path / "files")
    collect(Listing(INFO, images), tmp_path / "raw", shards="always")
    return tmp_path / "raw"


def paths(raw: Path) -> list[str]:
    return tables.read_images(raw)["path"].to_list()


# Writing


def test_the_tables_are_the_same_and_each_photograph_is_in_one_shard_byte_by_byte(packed, tmp_path):
    files = tmp_path / "files"
    for name in ("images.csv", "labels.csv", "missing.csv", "source.json"):
        assert filecmp.cmp(packed / name, files / name, shallow=False)
    index, found = pl.read_csv(packed / "images/index.csv"), {}
    for shard in sorted(set(index["shard"])):
        with tarfile.open(packed / "images" / shard) as archive:
            members = archive.getmembers()
            assert [member.name for member in members] == sorted(member.name for member in members)
            for member in members:
                facts = (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode)
                assert facts == (0, 0, 0, "", "", 0o644)
                found[member.name] = archive.extractfile(member).read()
    assert found == contents(files / "images")
    assert {path.name for path in (packed / "images").iterdir()} == {"index.csv", *index["shard"]}
    assert index["shard"].n_unique() > 2
    one = index.row(0, named=True)
    content = (packed / "images" / one["shard"]).read_bytes()[one["offset"] : one["offset"] + one["size"]]
    assert content == found[one["name"]]


def test_the_programs_of_the_system_open_a_shard(packed):
    listed = []
    for shard in (packed / "images").glob("*.tar"):
        listed += subprocess.run(["tar", "tf", shard], capture_output=True, text=True, check=True).stdout.split()
    assert sorted(listed) == sorted(store.name(path) for path in paths(packed))


def test_the_order_of_the_listing_changes_no_byte(packed, tmp_path):
    collect(Listing(INFO, draw(tmp_path / "photographs")[::-1], workers=1), tmp_path / "again", shards="always")
    assert contents(tmp_path / "again/images") == contents(packed / "images")


def test_one_more_photograph_changes_one_shard(packed, tmp_path):
    before = contents(packed / "images")
    more = draw(tmp_path / "photographs", 13)
    collect(Listing(INFO, more), tmp_path / "more", shards="always")
    after = contents(tmp_path / "more/images")
    assert after.keys() == before.keys()
    changed = [name for name in after if after[name] != before[name]]
    assert len(changed) == 2 and "index.csv" in changed


def test_growth_divides_each_shard_in_two():
    ids = [f"photograph{number}" for number in range(500)]
    for bits in range(6):
        assert all(shards.shard_number(name, bits + 1) // 2 == shards.shard_number(name, bits) for name in ids)
    assert [shards.hash_bits(size) for size in (0, 256_000_000, 256_000_001, 512_000_001, 10**12)] == [0, 0, 1, 2, 12]


@pytest.mark.parametrize("limit, wanted", [(None, False), ("always", True), (12, False), (11, True)])
def test_more_photographs_than_the_parameter_says_become_shards(limit, wanted, tmp_path):
    collect(Listing(INFO, draw(tmp_path / "photographs")), tmp_path / "raw", shards=limit)
    assert (tmp_path / "raw/images/index.csv").exists() == wanted
    assert len(list((tmp_path / "raw/images").iterdir())) == (2 if wanted else 12)


@pytest.mark.parametrize("value", ["0", "true", "1.5", "sometimes"])
def test_another_value_of_the_parameter_is_one_line(value):
    text = (ROOT / "params.yaml").read_text()
    assert "  shards: 50000 " in text
    message = refusal(params.parse, text.replace("  shards: 50000 ", f"  shards: {value} "), "params.yaml")
    assert message.startswith("params.yaml: download.shards should be null, always or a whole number from 1, not ")


# Nothing of a person's own is lost


def test_what_download_has_written_is_known_as_shards_too_and_a_file_of_ones_own_is_not(packed):
    outputs.check_own(packed / "images", collected(packed))
    (packed / "images/mine.tar").write_bytes(b"mine")
    assert "holds mine.tar, which" in refusal(outputs.check_own, packed / "images", collected(packed))


@pytest.mark.parametrize("what", ["cut index", "no index", "empty shard", "text", "empty", "line ends"])
def test_shards_and_an_index_that_are_damaged_are_replaced(what, packed):
    damage(packed, what)
    outputs.check_own(packed / "images", collected(packed))


def test_a_table_of_ones_own_and_a_tar_file_of_other_things_are_not_replaced(packed, tmp_path):
    images = packed / "images"
    (images / "index.csv").write_text("name,colour\n1,2\n")
    assert f"{images} would be replaced, and holds index.csv, which" in refusal(
        outputs.check_own, images, collected(packed)
    )
    (images / "index.csv").unlink()
    (tmp_path / "mine.txt").write_text("mine")
    with tarfile.open(images / "00099.tar", "w") as archive:
        archive.add(tmp_path / "mine.txt", "mine.txt")
    assert "holds 00099.tar, which" in refusal(outputs.check_own, images, collected(packed))


# Reading


def test_what_is_read_through_the_door_is_what_the_files_hold(packed, tmp_path):
    members, files = store.Photographs(packed), store.Photographs(tmp_path / "files")
    assert files.shards is None
    for path in paths(packed):
        member, file = members[path], files[path]
        assert isinstance(member, store.Member) and isinstance(file, Path)
        assert str(member) == str(packed / path)
        assert (member.name, member.suffix) == (file.name, file.suffix)
        assert member.read_bytes() == member.open().read() == file.read_bytes()
        assert store.byte_count(member) == store.byte_count(file)
        assert np.array_equal(decoding.decode(member), decoding.decode(file))
        assert decoding.check(member) == decoding.check(file)
        assert pickle.loads(pickle.dumps(member)) == member


def test_a_photograph_in_a_shard_is_read_like_a_file_from_any_place(packed):
    photographs = store.Photographs(packed)
    member = photographs[paths(packed)[0]]
    content = member.read_bytes()
    with member.open() as file:
        assert file.seek(-3, 2) == len(content) - 3
        assert (file.read(99), file.read(1)) == (content[-3:], b"")
        assert file.seek(2) == 2 and file.seek(1, 1) == 3
        assert file.read(4) == content[3:7]
        with pytest.raises(OSError):
            file.raw.seek(-1)
    with pytest.raises(ValueError):
        member.open("wb")


def test_photographs_are_read_in_many_threads(packed, tmp_path):
    photographs, wanted = store.Photographs(packed), contents(tmp_path / "files/images")
    asked = paths(packed) * 50
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda path: photographs[path].read_bytes(), asked))
    assert read == [wanted[store.name(path)] for path in asked]


def test_no_file_stays_open(packed):
    photographs = store.Photographs(packed)
    before = len(list(Path("/proc/self/fd").iterdir()))
    images = [store.open_image(photographs[path]).size for path in paths(packed)]
    assert len(images) == 12 and len(list(Path("/proc/self/fd").iterdir())) == before


def damage(packed: Path, what: str) -> None:
    images = packed / "images"
    shard, index = sorted(images.glob("*.tar"))[0], images / "index.csv"
    lines = index.read_text().splitlines(keepends=True)
    match what:
        case "cut":
            shard.write_bytes(shard.read_bytes()[:-1])
        case "empty shard":
            shard.write_bytes(b"")
        case "gone":
            shard.unlink()
        case "another":
            (images / "00099.tar").write_bytes(shard.read_bytes())
        case "no index":
            index.unlink()
        case "a line less":
            index.write_text("".join(lines[:1] + lines[2:]))
        case "a line twice":
            index.write_text("".join([*lines, lines[-1]]))
        case "moved":
            index.write_text("".join(lines).replace(",512,", ",1024,", 1))
        case "elsewhere":
            index.write_text("".join(lines).replace(shard.name, "../../x.tar"))
        case "text":
            index.write_text("".join(lines).replace(",512,", ",many,", 1))
        case "cut index":
            index.write_text("".join(lines)[:-9])
        case "empty":
            index.write_text("")
        case "broken link":
            shard.unlink()
            shard.symlink_to("nowhere")
        case "line ends":
            index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize(
    "what, says",
    [
        ("cut", r"images/00000.tar has [\d,]+ bytes, and by index.csv [\d,]+: `dvc checkout"),
        ("gone", "images/00000.tar is missing: `dvc checkout"),
        ("broken link", "images/00000.tar is missing: `dvc checkout"),
        ("another", "images/index.csv does not list 00099.tar: `dvc checkout"),
        ("no index", "images/index.csv is missing: `dvc checkout"),
        ("a line less", "images/index.csv is damaged at 00000.tar: `dvc checkout"),
        ("a line twice", "images/index.csv is damaged: `dvc checkout"),
        ("moved", "images/index.csv is damaged at 00000.tar: `dvc checkout"),
        ("elsewhere", "images/index.csv is damaged: `dvc checkout"),
        ("text", r"images/index.csv is no index of shards \(.*\): `dvc checkout"),
        ("cut index", "images/index.csv is damaged"),
        ("empty", r"images/index.csv is no index of shards \(.*\): `dvc checkout"),
    ],
)
def test_shards_that_are_damaged_are_one_line_that_says_what_to_do(what, says, packed):
    damage(packed, what)
    with pytest.raises(ThawError, match=says) as caught:
        store.Photographs(packed)
    assert "\n" not in str(caught.value) and "`dvc repro -f download`" in str(caught.value)


def test_a_shard_with_other_photographs_than_the_index_says_is_noticed_where_one_is_read(packed):
    photographs = store.Photographs(packed)
    member = photographs[paths(packed)[0]]
    shard = packed / "images" / member.shard
    content = bytearray(shard.read_bytes())
    content[member.offset - store.BLOCK] ^= 1
    shard.write_bytes(content)
    for read in (decoding.decode, decoding.check, store.open_image, store.Member.read_bytes):
        assert f"{shard} does not hold {member.name} where index.csv says" in refusal(read, member)
    shard.unlink()
    assert f"{shard} is missing" in refusal(decoding.decode, member)


def test_a_photograph_that_is_not_in_the_index_is_a_file_that_is_not_there(packed):
    photograph = store.Photographs(packed)["images/other.png"]
    assert "images/other.png: no such file" in refusal(decoding.decode, photograph)


def test_the_date_that_a_camera_wrote_is_read_from_a_shard(tmp_path):
    images = draw(tmp_path / "photographs", 2)
    exif = Image.Exif()
    for image, year in zip(images, (2023, 2024), strict=True):
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = f"{year}:06:01 12:00:00"
        with Image.open(image.path) as pixels:
            pixels.save(image.path, "JPEG", exif=exif)  # Pillow writes none into a PNG
    table, _ = collect(Listing(INFO, images), tmp_path / "raw", shards="always")
    assert times.are_newer(table, store.Photographs(tmp_path / "raw"), "2024-01-01", "exif").to_list() == [False, True]


# Scripts


def test_photographs_that_changed_since_a_run_are_told_by_their_size_in_the_shard(packed, tmp_path):
    listing = Listing(INFO, draw(tmp_path / "photographs"))
    found = survey.Survey("folder", tmp_path / "photographs", listing, [], [], 0.0)
    assert survey.changes_since(packed, found) == {}
    with listing.images[4].path.open("ab") as file:
        file.write(b"more")
    assert survey.changes_since(packed, found) == {"changed": 1}


@pytest.mark.parametrize("name", ["images/p01.png", "images/p0[13].png", "images"])
def test_names_of_photographs_to_predict_may_be_in_shards(name, packed, tmp_path):
    found = [list(stream.expand([str(raw / name)])) for raw in (packed, tmp_path / "files")]
    assert [Path(str(each)).name for each in found[0]] == [each.name for each in found[1]]
    views = [[image.view for image in stream.load_images(each, 8, "squash")] for each in found]
    assert np.array_equal(*views)


def test_an_index_that_an_editor_has_saved_in_its_own_way_is_read_by_all(packed):
    damage(packed, "line ends")
    read = [store.Photographs(packed)[path].read_bytes() for path in paths(packed)]
    expanded = {item.name: item for item in stream.expand([str(packed / "images")])}
    assert [expanded[store.name(path)].read_bytes() for path in paths(packed)] == read


def test_a_table_called_index_csv_does_not_make_a_folder_one_of_shards(tmp_path):
    draw(tmp_path / "own")
    (tmp_path / "own/index.csv").write_text("name,label\n")
    assert len(list(stream.expand([str(tmp_path / "own")]))) == 12
    [absent] = stream.expand([str(tmp_path / "own/absent.png")])
    assert absent == tmp_path / "own/absent.png"


def test_photographs_are_brought_out_and_nothing_is_overwritten(packed, tmp_path):
    photographs = store.Photographs(packed)
    assert store.bring_out((photographs[path] for path in paths(packed)), tmp_path / "out") == 12
    assert contents(tmp_path / "out") == contents(tmp_path / "files/images")
    (tmp_path / "out" / "p01.png").write_text("mine")
    (tmp_path / "out" / "p00.jpg").unlink()
    assert "p01.png is there already" in refusal(
        store.bring_out, [photographs["images/p00.jpg"], photographs["images/p01.png"]], tmp_path / "out"
    )
    assert not (tmp_path / "out" / "p00.jpg").exists() and (tmp_path / "out" / "p01.png").read_text() == "mine"
    (tmp_path / "out" / "p01.png").unlink()
    assert store.bring_out((photographs[path] for path in paths(packed)), tmp_path / "out") == 12  # these two are new
    assert contents(tmp_path / "out") == contents(tmp_path / "files/images")


def test_each_photograph_that_shows_a_class_is_brought_out_by_its_label(packed, monkeypatch):
    monkeypatch.setattr(bring_out, "RAW", packed)
    images = tables.read_images(packed).with_columns(label=pl.lit("cat + dog"))
    rows = [("p00", "cat", 1, 1.0), ("p00", "dog", 1, 1.0), ("p01", "cat", 0, 1.0), ("p01", "dog", 1, 1.0)]
    tables.write(pl.DataFrame(rows, tables.LABELS, orient="row"), packed / "labels.csv")
    shown = bring_out.shown(images)
    assert bring_out.chosen(images, shown, None, ["cat"])["image_id"].to_list() == ["p00"]
    assert bring_out.chosen(images, shown, None, ["dog"])["image_id"].sort().to_list() == ["p00", "p01"]
    assert "no label 'cat + dog'" in refusal(bring_out.chosen, images, shown, None, ["cat + dog"])


def test_a_folder_to_label_from_has_photographs_of_shards_as_files_and_keeps_those_of_ones_own(packed, tmp_path):
    table, photographs = tables.read_images(packed), store.Photographs(packed)
    rows = table.filter(pl.col("image_id").is_in(["p01", "p02"])).iter_rows(named=True)
    given = [hand_over.Item(photographs[row["path"]], row["sha256"], 1.0, "doubt") for row in rows]
    out = tmp_path / "out"
    for _ in range(2):  # the second call replaces what the first has written
        hand_over.check_replaceable(out, (), ())
        served, items = hand_over.write(out, given, ["cat", "dog"])
    assert served == out / "photographs" and [item.path.name for item in items] == ["p01.png", "p02.jpg"]
    assert all(item.path.read_bytes() == photographs[f"images/{item.path.name}"].read_bytes() for item in items)
    assert pl.read_csv(out / hand_over.TABLE)["path"].to_list() == [str(item.path) for item in items]
    (out / "photographs/mine.png").write_bytes(b"mine")
    assert "holds photographs/mine.png, which is not" in refusal(hand_over.check_replaceable, out, (), ())


# The pipeline


def locked(checkout) -> dict[str, str]:
    stages = yaml.safe_load(checkout.lock)["stages"].values()
    return {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}


def pictures(checkout) -> list:
    """What the export checks with, and what the page of `make try` shows of the training photographs."""
    data, model = checkout.path / "data", checkout.path / "models"
    description = deployed_model.read_description(model / "model.keras")
    run = ood.TrainingRun(data / "features", data / "split.csv", model / "backbone", checkout.path / "dvc.lock")
    training = TrainingPhotographs(run, data / "raw", model / "model.keras", description)
    checked = check_images.read_split(data / "raw", data / "split.csv", "test", description, 9)
    nearest = training.place(checked.views[0], None).neighbours
    return [checked.views.tobytes(), *(neighbour.picture for neighbour in nearest)]


def test_with_shards_the_pipeline_gives_the_same_bytes_and_every_script_reads_them(finished):
    before, files = locked(finished), contents(finished.path / "data/raw/images")
    seen = pictures(finished)
    finished.set(download__shards="always")
    ran = finished.repro()
    assert {"download", "split", "augment", "extract_features", "extract_activations", "evaluate"} <= set(ran)
    after = locked(finished)
    assert [path for path in after if after[path] != before[path]] == ["data/raw/images"]
    assert sorted(contents(finished.path / "data/raw/images")) == ["00000.tar", "index.csv"]
    assert not finished.partials()
    assert not finished.repro()
    assert pictures(finished) == seen and None not in seen

    named = sorted(f"data/raw/images/{name}" for name in files)
    result = finished.run("python", "src/predict.py", "--json", "data/raw/images")
    assert [json.loads(line)["path"] for line in result.stdout.splitlines()] == named, result.stderr
    assert "error" not in result.stdout
    result = finished.run("python", "src/drift.py", "photographs")
    assert "are photographs of this run" in result.stderr
    result = finished.run("python", "src/explore.py", "--no-app")
    assert "`python src/bring_out.py FOLDER`" in result.stderr
    result = finished.run("python", "src/bring_out.py", "out", "--labels", "stripes")
    images = tables.read_images(finished.path / "data/raw").filter(label="stripes")
    assert result.stdout == f"bring_out: {len(images)} photographs in out\n", result.stderr
    assert contents(finished.path / "out") == {store.name(path): files[store.name(path)] for path in images["path"]}

    (finished.path / "out" / min(contents(finished.path / "out"))).write_text("mine")
    for folder, says in (("out", "is there already"), ("data/raw/images/out", "lies in data/raw/images")):
        assert says in finished.run("python", "src/bring_out.py", folder).stderr
    result = finished.run("python", "src/bring_out.py", "more", "--labels", "stripe")
    assert "has no label 'stripe' (did you mean stripes" in result.stderr

    finished.set(download__shards=None)
    finished.repro()
    assert contents(finished.path / "data/raw/images") == files
    assert locked(finished) == before
    shutil.rmtree(finished.path / "out")
