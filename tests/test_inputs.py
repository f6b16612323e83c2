"""Files of a person's own: nothing of them is deleted, a change is noticed, and a relative path holds everywhere."""

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import polars as pl
import pytest
import yaml
from conftest import ROOT, Checkout
from PIL import Image

import fingerprints
import inputs
from thaw.core import files, hashes, params, paths
from thaw.core.errors import ThawError
from thaw.core.paths import named_path
from thaw.inputs import fingerprint, named, outputs
from thaw.sources.folder import Folder
from thaw.sources.folder import find as find_folder
from thaw.sources.table import Table
from thaw.sources.table import find as find_table

OUTPUTS = [Path("data/raw/images"), Path("data/split.csv"), Path("models/backbone"), Path("models/model.keras")]
OLD = 1_600_000_000  # seconds; a date of files, in 2020


@pytest.fixture(scope="module")
def collected_once(source_dir, tmp_path_factory):
    """The scratch repository after its first three stages. The photographs lie beside it, where Git sees none."""
    project = Checkout(tmp_path_factory.mktemp("inputs") / "project")
    shutil.copytree(source_dir, project.path)
    shutil.move(project.path / "photographs", project.path.parent / "mine")
    project.set(download__folder__path="../mine")
    assert project.repro("download") == ["inputs", "download"]
    commit(project)
    return project.path


@pytest.fixture
def project(collected_once, tmp_path):
    shutil.copytree(collected_once.parent, tmp_path / "all", symlinks=True)
    return Checkout(tmp_path / "all" / "project")


@pytest.fixture
def mine(project):
    return project.path.parent / "mine"


def commit(project):
    project.run("git", "add", "--all", check=True)
    project.run("git", "commit", "--quiet", "--message", "run", check=True)


def write_metadata(model: Path, metadata: dict) -> None:
    with zipfile.ZipFile(model, "w") as file:
        file.writestr("metadata.json", json.dumps(metadata))


def labels(project) -> dict[str, str]:
    table = pl.read_csv(project.path / "data/raw/images.csv")
    return {image_id.rpartition("-")[0]: label for image_id, label in table.select("image_id", "label").iter_rows()}


# --- Changes that DVC does not see ---


def test_without_a_change_only_the_fingerprints_are_taken_again(project):
    before = project.lock
    result = project.dvc("repro", "download")
    assert [line for line in result.stdout.splitlines() if line.startswith("> ")] == ["> python src/fingerprints.py"]
    assert "fingerprints: nothing changed" in result.stdout
    assert project.lock == before


def test_without_files_of_ones_own_nothing_runs_a_second_time(project):
    project.set(download__source="elpv")
    assert project.repro("fingerprints") == ["inputs"]
    assert "> python" not in project.dvc("repro", "fingerprints").stdout
    assert "up to date" in project.dvc("status", "fingerprints").stdout


def test_photographs_that_were_relabelled_while_others_were_used_have_their_new_labels(project, mine):
    """As if by the run cache, which knows the path of a folder and not its content."""
    shutil.copytree(mine, mine.with_name("others"))
    project.set(download__folder__path="../others")
    project.repro("download")
    (mine / "blobs" / "blobs00.png").rename(mine / "stripes" / "blobs00.png")
    project.set(download__folder__path="../mine")
    assert "download" in project.repro("download")
    assert labels(project)["blobs00"] == "stripes"


def test_a_photograph_that_was_added_is_noticed_by_a_plain_run(project, mine):
    shutil.copyfile(mine / "blobs" / "blobs00.png", mine / "blobs" / "new.png")
    assert project.repro("download") == ["download"]
    assert labels(project)["new"] == "blobs"
    assert project.repro("download") == []


def test_in_a_clone_without_the_photographs_they_are_taken_as_unchanged_and_that_is_said(project, mine):
    before = project.lock
    mine.rename(mine.with_name("gone"))
    result = project.dvc("repro", "download")
    assert result.returncode == 0, result.stderr
    assert f"{mine} is not on this machine: taken as unchanged" in result.stdout.replace("project/../", "")
    assert project.lock == before


def test_in_a_clone_with_the_table_alone_its_photographs_are_taken_as_unchanged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fingerprints, "MEMORY", tmp_path / "memory")
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    for name, number in itertools.product("ab", range(3)):
        (tmp_path / "mine" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 20, ord(name), 9)).save(tmp_path / f"mine/{name}/{number}.png")
    rows = [f"mine/{name}/{number}.png,{name}" for name in "ab" for number in range(3)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    (tmp_path / "mine/.gitignore").write_text("*.png")
    for source, path in (("table", "labels.csv"), ("folder", "mine")):
        values["download"] |= {"source": source, source: values["download"][source] | {"path": path}}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
        download = params.load(tmp_path / "params.yaml").download
        before = fingerprints.of_photographs(download, "single", None)
        away = [path.rename(path.with_suffix(".away")) for path in (tmp_path / "mine").rglob("*.png")]
        aside = shutil.move(tmp_path / "mine", tmp_path / "aside") if source == "table" else None
        if source == "folder":
            [path.rename(tmp_path / f"{path.parent.name}-{path.name}") for path in away]
        if source == "table":  # where they were before, they are looked for
            with pytest.raises(ThawError, match="are not there"):
                fingerprints.of_photographs(download, "single", before)
        monkeypatch.setattr(fingerprints, "MEMORY", tmp_path / f"memory of a clone, {source}")
        assert fingerprints.of_photographs(download, "single", before) == before
        assert f"no photograph of {tmp_path / path} is on this machine: taken as unchanged" in capsys.readouterr().out
        if aside:
            shutil.move(aside, tmp_path / "mine")
            [path.rename(path.with_suffix(".png")) for path in away]


def test_weights_and_a_model_that_changed_are_noticed_by_the_stages_that_read_them(project, mine):
    (mine / "stripes").rename(mine / "not blobs")  # an extended head needs such a class
    weights, model = (project.path.parent / name for name in ("mine.weights.h5", "mine.keras"))
    weights.write_bytes(b"one")
    write_metadata(model, {"class_names": ["a", "b"]})
    project.set(backbone__weights=str(weights), head__extend=str(model), fine_tune__freeze_depth="all")
    assert project.repro("fingerprints") == ["inputs"]
    hashes = {path.stem: path.read_bytes() for path in (project.path / "data/inputs").glob("*.json")}
    weights.write_bytes(b"two")
    assert "fingerprints: weights changed" in project.dvc("repro", "fingerprints").stdout
    write_metadata(model, {"class_names": ["b", "a"]})
    assert "fingerprints: model changed" in project.dvc("repro", "fingerprints").stdout
    after = {path.stem: path.read_bytes() for path in (project.path / "data/inputs").glob("*.json")}
    assert {name for name in hashes if after[name] != hashes[name]} == {"weights", "model"}
    assert str(project.path).encode() not in project.lock.replace(str(weights).encode(), b"").replace(
        str(model).encode(), b""
    )


@pytest.fixture
def folder(tmp_path):
    """Two classes of old photographs."""
    for label in ("cat", "dog"):
        for number in range(3):
            path = tmp_path / "mine" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number * 20, ord(label[0]), 9)).save(path)
            os.utime(path, (OLD, OLD))
    return tmp_path / "mine"


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, not after two seconds."""
    monkeypatch.setattr(fingerprint, "RECENT_NS", -(10**12))


def taken(folder: Path) -> str:
    """The fingerprint of a folder, as the stage takes it."""
    memory = fingerprint.Memory(folder.parent / "memory.json")
    return memory.same() or fingerprint.of_listing(find_folder(Folder(path=str(folder))), folder, memory)


def replace_keeping_size_and_date(path):
    content = bytearray(path.read_bytes())
    content[-20] ^= 1  # within a checksum: it is as long as before
    path.write_bytes(content)
    os.utime(path, (OLD, OLD))


def swap(one, other):
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


CHANGES = {
    "relabelled": lambda folder: (folder / "cat/0.png").rename(folder / "dog/00.png"),
    "added": lambda folder: shutil.copyfile(folder / "cat/0.png", folder / "dog/new.png"),
    "added in a folder of the class": lambda folder: shutil.copytree(folder / "cat", folder / "dog" / "more"),
    "removed": lambda folder: (folder / "cat/0.png").unlink(),
    "another class": lambda folder: shutil.copytree(folder / "cat", folder / "hen"),
    "renamed class": lambda folder: (folder / "cat").rename(folder / "kitten"),
    "edited": lambda folder: Image.new("RGB", (9, 9)).save(folder / "cat/0.png"),
    "another folder has the name of a class": lambda folder: swap(folder / "cat", folder / "dog"),
    "edited, of the same size and date": lambda folder: replace_keeping_size_and_date(folder / "cat" / "1.png"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_folder_is_noticed(folder, settled, change):
    before = taken(folder)
    assert taken(folder) == before
    CHANGES[change](folder)
    assert taken(folder) != before


def test_a_link_that_leads_elsewhere_is_noticed(folder, settled):
    others = folder.with_name("others")
    for name in ("old", "new"):
        shutil.copytree(folder / "cat", others / name)
    replace_keeping_size_and_date(others / "new" / "1.png")
    link = folder / "hen"
    link.symlink_to(others / "old")
    before = taken(folder)
    link.unlink()
    link.symlink_to(others / "new")
    assert taken(folder) != before


@pytest.fixture
def later(monkeypatch):
    """The next look is a minute later: what was written in this test has settled, by the clock of this machine."""
    now = time.time_ns()
    monkeypatch.setattr(fingerprint.time, "time_ns", lambda: now + 60 * 10**9)


def test_a_photograph_of_a_camera_whose_clock_is_ahead_is_read_once_and_its_change_is_noticed(
    folder, later, monkeypatch
):
    next_year = time.time() + 365 * 24 * 3600
    for path in folder.rglob("*.png"):
        os.utime(path, (next_year, next_year))
    before = taken(folder)
    assert fingerprint.Memory(folder.parent / "memory.json").same() == before
    content = bytearray((folder / "cat/0.png").read_bytes())
    content[-20] ^= 1
    (folder / "cat/0.png").write_bytes(content)
    os.utime(folder / "cat/0.png", (next_year, next_year))  # of the same size and date
    assert taken(folder) != before


def test_a_file_system_whose_clock_is_ahead_has_its_files_read_again(folder, later, monkeypatch):
    """Each may change once more within the resolution of a time that is still to come."""
    state = fingerprint._state
    ahead = 10**9 * 3600
    monkeypatch.setattr(fingerprint, "_state", lambda p: (s := state(p)) and [s[0], s[1] + ahead, s[2] + ahead, s[3]])
    taken(folder)
    assert fingerprint.Memory(folder.parent / "memory.json").same() is None


def test_a_file_that_comes_into_the_place_of_a_pointer_or_a_broken_link_is_noticed(folder, settled):
    (folder / "cat/lfs.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n")
    (folder / "dog/link.png").symlink_to(folder.parent / "elsewhere.png")
    first = taken(folder)
    (folder / "cat/lfs.png").write_bytes((folder / "cat/0.png").read_bytes())
    second = taken(folder)
    shutil.copyfile(folder / "dog/0.png", folder.parent / "elsewhere.png")
    third = taken(folder)
    assert len({first, second, third}) == 3


def test_a_parameter_that_does_not_fit_the_photographs_is_refused_before_one_is_read(folder, tmp_path, monkeypatch):
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["download"] |= {"source": "folder", "folder": {"path": str(folder)}}
    values["split"] |= {"group": "patient"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    shutil.copyfile(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fingerprints, "MEMORY", tmp_path / "memory")
    monkeypatch.setattr(hashes, "sha256", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(ThawError, match=r"^split.group: the photographs have no column meta_patient; "):
        fingerprints.main()


@pytest.mark.parametrize(("size", "resize", "wrong"), [(32, "pad", None), (None, "auto", None), (64, "pad", "size"),
                                                       (32, "crop", "resize")])  # fmt: skip
def test_a_model_that_was_trained_on_other_views_is_extended_by_no_stage(tmp_path, monkeypatch, size, resize, wrong):
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["head"]["extend"], values["fine_tune"]["freeze_depth"] = "mine.keras", "all"
    values["image"] |= {"size": size, "resize": resize}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    write_metadata(tmp_path / "mine.keras", {"class_names": ["a", "b"], "image": {"size": 32, "resize": "pad"}})
    monkeypatch.chdir(tmp_path)
    expected = pytest.raises(ThawError, match=f"trained with image.{wrong} .* this run has .*: set image.{wrong} to ")
    with expected if wrong else contextlib.nullcontext():
        fingerprints.main()
    assert Path("data/inputs/model.json").exists() == (wrong is None)


def test_what_is_unchanged_is_neither_listed_nor_read_again(folder, settled, monkeypatch):
    before = taken(folder)
    monkeypatch.setattr(hashes, "sha256", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(fingerprint, "of_listing", lambda *_: pytest.fail("the folder was listed"))
    assert taken(folder) == before


def test_of_a_folder_that_changed_only_the_changed_file_is_read_again(folder, settled, monkeypatch):
    taken(folder)
    Image.new("RGB", (9, 9)).save(folder / "cat/0.png")
    read, sha256 = [], hashes.sha256
    monkeypatch.setattr(hashes, "sha256", lambda path: read.append(path) or sha256(path))
    taken(folder)
    assert read == [folder / "cat/0.png"]


def test_what_a_folder_of_weights_says_of_pixels_belongs_to_the_weights(tmp_path):
    own = named.Named("backbone.weights", tmp_path / "model.safetensors", "the weights")
    own.path.write_bytes(b"tensors")
    alone = fingerprints.of_file(own, None)
    assert alone == hashes.sha256(own.path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    one = fingerprints.of_file(own, alone)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.4, 0.5, 0.5]}')
    assert len({alone, one, fingerprints.of_file(own, one)}) == 3


def test_a_folder_that_changed_once_is_known_again(folder, settled):
    taken(folder)
    shutil.copyfile(folder / "cat/0.png", folder / "cat/new.png")
    changed = taken(folder)
    assert fingerprint.Memory(folder.parent / "memory.json").same() == changed


def test_a_file_that_was_left_out_and_counts_now_is_read(folder, settled):
    memory = fingerprint.Memory(folder.parent / "memory.json")
    listing = find_folder(Folder(path=str(folder)))
    first = dataclasses.replace(listing.images[0], left_out="why")
    fingerprint.of_listing(dataclasses.replace(listing, images=[first, *listing.images[1:]]), folder, memory)
    again = fingerprint.of_listing(listing, folder, fingerprint.Memory(folder.parent / "memory.json"))
    assert again == fingerprint.of_listing(listing, folder, fingerprint.Memory(folder.parent / "none.json"))


def test_a_file_that_has_just_been_written_is_read_again(folder):
    """It may change once more within the resolution of its times."""
    before = taken(folder)
    memory = fingerprint.Memory(folder.parent / "memory.json")
    assert memory.same() is None
    assert taken(folder) == before


def test_a_damaged_memory_is_no_memory(folder, settled):
    before = taken(folder)
    (folder.parent / "memory.json").write_text("[1")
    assert taken(folder) == before


def test_the_fingerprint_of_a_folder_does_not_depend_on_where_it_is(folder, settled, tmp_path):
    before = taken(folder)
    shutil.copytree(folder, tmp_path / "elsewhere" / "mine")
    assert taken(tmp_path / "elsewhere" / "mine") == before


def test_a_table_is_noticed_with_the_photographs_that_it_lists(folder, settled):
    table = folder.parent / "labels.csv"

    def of_table():
        memory = fingerprint.Memory(folder.parent / "memory-table.json")
        section = Table(path=str(table), path_column="path", label_column="label", label_separator=";", unlisted=None)
        return memory.same() or fingerprint.of_listing(find_table(section), table, memory)

    rows = [f"mine/{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    table.write_text("\n".join(["path,label", *rows]))
    before = of_table()
    assert of_table() == before
    table.write_text("\n".join(["path,label", *rows[:-1], rows[-1].replace(",dog", ",cat")]))
    relabelled = of_table()
    assert relabelled != before
    Image.new("RGB", (9, 9)).save(folder / "dog/1.png")
    assert of_table() not in (before, relabelled)


def test_a_repository_without_a_commit_is_refused_by_the_first_stage(dvc_of_its_own, tmp_path, monkeypatch):
    """As of the files that a browser downloads: `git init`, and no commit."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    inputs.main()  # without Git there is nothing to commit to
    subprocess.run(["git", "init", "--quiet"], check=True)
    with pytest.raises(ThawError, match="this Git repository has no commit"):
        inputs.main()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))  # Git is not installed: nothing can be said
        inputs.main()
    commit(Checkout(tmp_path))
    inputs.main()


# --- Nothing is lost ---


def own(path):
    return [named.Named("download.folder.path", Path(path), "photographs")]


@pytest.mark.parametrize("where", ["data/raw", "data/raw/cat", "data/raw/images/cat", "data", ".", "models/backbone/x"])
def test_what_lies_in_an_output_or_holds_one_is_refused(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / where).mkdir(parents=True, exist_ok=True)
    with pytest.raises(ThawError, match="DVC would delete photographs there"):
        outputs.check_apart(own(tmp_path / where), OUTPUTS)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["raw/images"], "name another folder"),
        (["raw/images", "train/cat", "notes"], "did you mean {data}/train?"),
        (["train/cat", "test/cat"], "move test, train to a folder of their own, such as {data}/photographs, and name"),
        (["cat", "dog", "hen", "pig"], "move cat, dog, hen, … to a folder of their own"),
    ],
)
def test_the_folder_that_is_probably_meant_inside_one_with_outputs_is_named(tmp_path, monkeypatch, folders, said):
    monkeypatch.chdir(tmp_path)
    for name in folders:
        (tmp_path / "data" / name).mkdir(parents=True)
        if name != "notes":
            Image.new("RGB", (8, 8)).save(tmp_path / "data" / name / "1.png")
    with pytest.raises(ThawError) as caught:
        outputs.check_apart(own(tmp_path / "data"), OUTPUTS)
    assert str(caught.value).count("there; " + said.format(data=tmp_path / "data")) == 1


@pytest.mark.parametrize("where", ["photographs", "data/mine", "models/mine", "data/raw2", "../elsewhere"])
def test_what_lies_beside_the_outputs_is_allowed(tmp_path, monkeypatch, where):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    outputs.check_apart(own(tmp_path / "project" / where), OUTPUTS)


@pytest.mark.parametrize("link", ["folder", "photograph", "output"])
def test_links_are_followed(tmp_path, monkeypatch, link):
    monkeypatch.chdir(tmp_path)
    images = tmp_path / "data" / "raw" / "images"
    images.mkdir(parents=True)
    (images / "1.png").touch()
    path = tmp_path / "mine" / "1.png"
    if link == "folder":
        path.parent.symlink_to(images)
    elif link == "photograph":
        path.parent.mkdir()
        path.symlink_to(images / "1.png")
    else:
        path.parent.mkdir()
        images.rename(tmp_path / "aside")
        images.symlink_to(path.parent)
    with pytest.raises(ThawError, match="lies in data/raw"):
        outputs.check_apart(own(path), OUTPUTS)


@pytest.mark.parametrize(("where", "said"), [("data/mine/..", "holds"), ("data/raw/images/..", "lies in")])
def test_a_path_that_ends_with_dots_is_that_of_the_folder_around(tmp_path, monkeypatch, where, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / where).parent.mkdir(parents=True)
    with pytest.raises(ThawError, match=f"{said} data/raw"):
        outputs.check_apart(own(tmp_path / where), OUTPUTS)


@pytest.mark.parametrize(
    ("output", "where", "said"),
    [("data/raw", "cat/1.png", "lies in"), ("data", "", "holds")],
)
def test_a_folder_that_is_mounted_at_a_second_place_too_is_found(tmp_path, output, where, said):
    """As a container has the project and a folder in it."""
    (tmp_path / "project" / "data" / "raw" / "images").mkdir(parents=True)
    (tmp_path / "second").mkdir()
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "src")!r})
from pathlib import Path
from thaw.inputs import named, outputs
mine = named.Named("the path", Path("../second").absolute() / {where!r}, "photographs")
outputs.check_apart([mine], [Path("data/raw/images"), Path("models/model.keras")])
"""
    mount = f"mount --bind {tmp_path}/project/{output} {tmp_path}/second"
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if subprocess.run([*command, "true"], check=False, capture_output=True, cwd=tmp_path).returncode:
        pytest.skip("this machine lets nobody mount a folder")
    result = subprocess.run(
        [*command, sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path / "project"
    )
    assert f"{said} data/raw" in result.stderr


def test_a_hard_link_to_an_output_is_a_file_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    Path("models/model.keras").touch()
    Path("mine.keras").hardlink_to("models/model.keras")
    outputs.check_apart(own(tmp_path / "mine.keras"), OUTPUTS)


def test_files_that_the_stage_did_not_write_are_named(tmp_path):
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for name in ("made.png", "cat/1.png", "2.png", ".DS_Store"):
        (tmp_path / "images" / name).touch()
    outputs.check_own(tmp_path / "nothing", [])
    with pytest.raises(ThawError, match=r"images would be replaced, and holds 2\.png, cat/1\.png, which this"):
        outputs.check_own(tmp_path / "images", ["made.png"])


@pytest.mark.parametrize("link", ["data/raw", "data/raw/images"])
def test_an_output_behind_a_link_is_refused(tmp_path, monkeypatch, link):
    monkeypatch.chdir(tmp_path)
    Path("disk/images").mkdir(parents=True)
    Path(link).parent.mkdir(parents=True)
    Path(link).symlink_to(tmp_path / "disk")
    with pytest.raises(ThawError, match=f"^{link} is a link"):
        files.check_no_link(Path("data/raw/images"))


def test_photographs_in_data_raw_outlive_every_command(project):
    """Also where their folder is named as that of the photographs, which is an error."""
    paths = [project.path / "data" / "raw" / label / "1.png" for label in ("cat", "dog")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(os.urandom(2000))  # nothing of it is in DVC's cache
    single = ["repro", "--single-item", "--force", "download"]
    experiment = ["exp", "run", "--set-param", "split.seed=7", "download"]
    for command in (single, experiment, ["checkout", "--force", "data/raw/images", "data/raw/images.csv"]):
        assert project.dvc(*command).returncode == 0
        assert all(path.exists() for path in paths), command
    project.set(download__folder__path="data/raw")
    for command in (["repro", "download"], single):
        result = project.dvc(*command)
        assert result.returncode != 0
        assert "thaw: download.folder.path: " in result.stderr and "DVC would delete photographs there" in result.stderr
        assert all(path.exists() for path in paths), command
    assert (project.path / "data/inputs/each_time.yaml").exists()  # it is in Git, and `dvc repro --dry` reads it


def test_a_photograph_among_the_copies_stops_the_stage_that_would_replace_them(project):
    path = project.path / "data" / "raw" / "images" / "mine.png"
    path.write_bytes(os.urandom(2000))
    result = project.dvc("repro", "download")
    assert result.returncode != 0
    assert "thaw: data/raw/images would be replaced, and holds mine.png" in result.stderr
    assert path.exists()
    path.unlink()
    assert project.repro("download") == []


def test_without_the_table_of_what_it_wrote_the_stage_goes_on_where_nothing_is_lost(project):
    table, own = project.path / "data/raw/images.csv", project.path / "data/raw/images/mine.png"
    before = table.read_bytes()
    table.unlink()
    assert project.run(sys.executable, "src/download.py").returncode == 0
    assert table.read_bytes() == before
    table.write_text("half a tab")
    own.write_bytes(os.urandom(2000))
    result = project.run(sys.executable, "src/download.py")
    assert result.returncode == 1 and own.exists()
    assert "mine.png, which this pipeline would not write: run `dvc checkout data/raw/images.csv`" in result.stderr


def test_leftovers_of_an_older_run_do_not_stay(project, mine):
    before = sorted(path.name for path in (project.path / "data/raw/images").iterdir())
    (mine / "blobs" / "blobs00.png").unlink()
    assert project.repro("download") == ["download"]
    after = sorted(path.name for path in (project.path / "data/raw/images").iterdir())
    assert [name for name in before if name not in after] == [next(n for n in before if n.startswith("blobs00"))]
    assert project.partials() == []


# --- Where a stage runs ---


def test_a_relative_path_begins_at_the_project_in_an_experiment_too(project, mine):
    (mine / "blobs" / "blobs00.png").unlink()  # so that the stage has to run
    command = ["exp", "run", "--temp", "--name", "elsewhere", "--set-param", "split.seed=7", "download"]
    result = project.dvc(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "download: 48 photographs" in result.stdout


def test_the_project_is_found_from_its_copy(tmp_path, monkeypatch):
    copy = tmp_path / "project" / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    (copy / ".dvc").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    monkeypatch.chdir(copy)
    assert named_path("../mine", "the path") == tmp_path / "project" / ".." / "mine"
    monkeypatch.chdir(tmp_path)  # a run of another project, inside of that one's stage
    assert named_path("mine", "the path") == tmp_path / "mine"


@pytest.mark.parametrize("of_dvc", [".", "outer/sub"])
def test_a_project_in_a_folder_of_a_larger_repository_is_found_from_its_copy(tmp_path, monkeypatch, of_dvc):
    """`.`: DVC's repository is the larger one; `outer/sub`: DVC was initialised in a folder of Git's repository."""
    original = tmp_path / of_dvc
    copy = original / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    for folder in (original / ".dvc", tmp_path / "outer" / "sub", copy / of_dvc / ".dvc", copy / "outer" / "sub"):
        folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("DVC_ROOT", str(original))
    monkeypatch.chdir(copy / "outer" / "sub")
    assert paths.project_folder() == tmp_path / "outer" / "sub"
    assert paths.repository(paths.project_folder()) == original.resolve()


def test_a_run_makes_no_repository_of_its_own_in_a_larger_one(fresh, tmp_path):
    """A folder `.dvc` in the project would be the repository of the next command, without cache and settings."""
    outer = Checkout(tmp_path / "outer")
    shutil.copytree(fresh.path, outer.path / "sub", ignore=shutil.ignore_patterns(".git", ".dvc"))
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        outer.run(*command, check=True)
    commit(outer)
    assert Checkout(outer.path / "sub").repro("fingerprints") == ["inputs"]
    assert not (outer.path / "sub" / ".dvc").exists()
    assert list((outer.path / ".dvc" / "tmp" / "thaw").iterdir())


@pytest.mark.parametrize(
    "written",
    ["  mine ", "'mine'", '"mine"', "$HOME/mine", "${HOME}/mine", "~/mine", "file://{home}/mine", "file://{home}/m%69ne",
     "my\\ own", "'~/my own'", "file://{home}/my%20own", "$MINE"],
)  # fmt: skip
def test_a_path_is_taken_as_people_write_and_paste_it(tmp_path, monkeypatch, written):
    for name in ("mine", "my own"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINE", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    found = named_path(written.format(home=tmp_path) if "file" in written else written, "the path")
    assert found == tmp_path / ("my own" if "own" in written else "mine")


def test_a_path_that_is_there_as_it_is_written_is_taken_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("$HOME", " a ", "'a'", "a", "~nobody-here"):
        (tmp_path / name).mkdir()
        assert named_path(name, "the path") == tmp_path / name
    assert named_path("${HOME}/new", "the path") == tmp_path / "home" / "new"
    with pytest.raises(ThawError, match=r"^the path ~nobody-else/mine: there is no such home$"):
        named_path("~nobody-else/mine", "the path")


@pytest.mark.parametrize(("written", "is_address"), [
    ("https://host/a.jpg", True), (" gs://bucket/a", True), ("file:///home/a", False), ("C:/mine", False),
    ("mine://", True), ("mine/a:b//c", False), ("", False)])  # fmt: skip
def test_an_address_is_told_from_a_path(written, is_address):
    assert paths.is_address(written) == is_address


@pytest.mark.parametrize("kind", ["table", "row"])
def test_a_path_through_a_link_and_back_leads_where_the_system_leads(folder, kind):
    """`link/..` is the folder around the target of the link, not the one that the link lies in."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to(folder / "cat")
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]))
    (elsewhere / "labels.csv").write_text("\n".join(["path,label", *(f"link/../{row}" for row in rows)]))
    path = elsewhere / ("link/../labels.csv" if kind == "table" else "labels.csv")
    listing = find_table(
        Table(path=str(path), path_column="path", label_column="label", label_separator=";", unlisted=None)
    )
    assert sorted(image.path for image in listing.images) == sorted(folder.rglob("*.png"))


def test_a_table_that_is_not_there_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThawError, match=rf"path mine\.csv cannot be read: .* \({tmp_path}/mine\.csv\)"):
        find_table(Table(path="mine.csv", path_column="path", label_column="label", label_separator=";", unlisted=None))


def test_a_path_that_is_not_there_is_named_in_full(project):
    project.set(download__folder__path="../nowhere")
    result = project.run(sys.executable, "src/download.py")
    assert f"download.folder.path ../nowhere is not a folder ({project.path}/../nowhere)" in result.stderr
    assert json.loads((project.path / "data/raw/source.json").read_text())["name"] == "folder"


@pytest.mark.parametrize("find", [named.weights, named.model])
def test_a_file_that_a_later_stage_reads_has_to_be_there_at_the_start(tmp_path, monkeypatch, find):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ThawError, match=r"there is no file .*gone\.keras"):
        fingerprints.of_file(find("gone.keras"), None)
    (tmp_path / "gone.keras").touch()
    assert fingerprints.of_file(find("gone.keras"), None)
