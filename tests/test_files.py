"""An output is complete or absent, however the block that writes it ends."""

from pathlib import Path

import pytest

from thaw.core.errors import ThawError
from thaw.core.files import (
    atomic_entries,
    atomic_file,
    atomic_files,
    atomic_folder,
    read_json,
    temporary_path,
    write_json,
)


class Stopped(BaseException):
    """Like a Ctrl-C: not an Exception."""


def listing(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("complete")
        assert not path.exists()
    assert path.read_text() == "complete"
    assert listing(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, OSError, Stopped])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("ha")
        raise error
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["file.txt"]


def test_an_error_before_the_first_byte_is_the_one_that_is_raised(tmp_path):
    with pytest.raises(ValueError, match="the real one"), atomic_file(tmp_path / "file.txt"):
        raise ValueError("the real one")
    assert listing(tmp_path) == []


def test_a_file_that_was_never_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "file.txt"):
        pass


def test_a_file_replaces_what_a_kill_left(tmp_path):
    path = tmp_path / "file.txt"
    temporary_path(path).write_text("from a killed run, longer than what follows")
    with atomic_file(path) as temporary:
        temporary.write_text("complete")
    assert path.read_text() == "complete"
    assert listing(tmp_path) == ["file.txt"]


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text("complete")
        assert not path.exists()
    assert listing(path.parent) == ["folder", "folder/a"]


@pytest.mark.parametrize("error", [ValueError, OSError, Stopped])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(error), atomic_folder(path) as temporary:
        (temporary / "new").touch()
        raise error
    assert listing(tmp_path) == ["folder", "folder/old"]


def test_a_folder_replaces_the_whole_of_the_old_one(tmp_path):
    path = tmp_path / "folder"
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "old").touch()
    with atomic_folder(path) as temporary:
        (temporary / "new").touch()
    assert listing(tmp_path) == ["folder", "folder/new"]


def test_a_folder_holds_nothing_of_what_a_kill_left(tmp_path):
    path = tmp_path / "folder"
    temporary_path(path).mkdir()
    (temporary_path(path) / "left").touch()
    with atomic_folder(path) as temporary:
        assert listing(temporary) == []
        (temporary / "new").touch()
    assert listing(tmp_path) == ["folder", "folder/new"]


def test_a_folder_is_made_after_a_kill_between_the_two_renames(tmp_path):
    path = tmp_path / "folder"
    old = tmp_path / ".folder.old.partial"
    old.mkdir()
    (old / "left").touch()
    temporary_path(path).mkdir()
    with atomic_folder(path) as temporary:
        (temporary / "new").touch()
    assert listing(tmp_path) == ["folder", "folder/new"]


def test_temporary_names_are_beside_the_final_one_and_hidden_from_git(tmp_path):
    assert temporary_path(tmp_path / "model.keras").parent == tmp_path
    assert temporary_path(tmp_path / "model.keras").name.startswith(".")
    assert temporary_path(tmp_path / "model.keras").name.endswith(".partial")


def test_json_that_two_people_have_changed_is_one_line(tmp_path):
    (tmp_path / "metrics.json").write_text('<<<<<<< HEAD\n{"a": 1}\n')
    with pytest.raises(ThawError, match=r"metrics\.json is damaged \(.*\): run `dvc repro`$"):
        read_json(tmp_path / "metrics.json")


def test_json_is_utf8_with_a_line_break_at_its_end(tmp_path):
    write_json(tmp_path / "made" / "value.json", {"name": "café"})
    write_json(tmp_path / "flat.json", ["a", 1], indent=None)
    assert (tmp_path / "made" / "value.json").read_bytes() == '{\n "name": "café"\n}\n'.encode()
    assert (tmp_path / "flat.json").read_bytes() == b'["a", 1]\n'


def test_entries_replace_those_of_their_names_and_what_else_is_there_stays(tmp_path):
    path = tmp_path / "folder"
    for name in ("images/old", "table", "mine/1"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("old")
    with atomic_entries(path) as temporary:
        (temporary / "images").mkdir()
        for name in ("images/new", "table"):
            (temporary / name).write_text("new")
        assert (path / "table").read_text() == "old"
    files = {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}
    assert files == {"images/new": "new", "table": "new", "mine/1": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_replaces_no_entry(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "table").write_text("old")
    with pytest.raises(ValueError, match="ha"), atomic_entries(tmp_path / "folder") as temporary:
        (temporary / "table").write_text("new")
        raise ValueError("ha")
    assert (tmp_path / "folder" / "table").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.fixture
def half_old(tmp_path):
    """A folder with files of a run before, and one of a person's."""
    path = tmp_path / "folder"
    for name in ("array", "deep/table", "deep/mine"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("old")
    return path


def write_new(path):
    with atomic_files(path) as temporary:
        (temporary / "deep").mkdir()
        for name in ("array", "deep/table"):
            (temporary / name).write_text("new")


def texts(path):
    return {file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()}


def test_files_replace_those_of_their_names_at_any_depth_and_what_else_is_there_stays(tmp_path, half_old):
    write_new(half_old)
    assert texts(half_old) == {"array": "new", "deep/table": "new", "deep/mine": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_replaces_no_file(tmp_path, half_old):
    with pytest.raises(Stopped), atomic_files(half_old) as temporary:
        (temporary / "array").write_text("new")
        raise Stopped
    assert set(texts(half_old).values()) == {"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_between_the_renames_leaves_no_old_file_beside_a_new_one(half_old, monkeypatch, renames):
    replace, done = Path.replace, []

    def killed(path, target):
        if len(done) == renames:
            raise Stopped
        done.append(path)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(Stopped):
        write_new(half_old)
    assert texts(half_old) == {"deep/mine": "old"} | dict.fromkeys(["array"][:renames], "new")


def test_files_behind_a_link_are_refused_before_the_work(tmp_path, monkeypatch):
    """DVC keeps no output behind one; and what lies there may be on another disk, where no name can be changed to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk").mkdir()
    Path("data").symlink_to(tmp_path / "disk")
    with pytest.raises(ThawError, match=r"^data is a link"), atomic_files(Path("data/features")):
        raise AssertionError("the work began")
    assert not listing(tmp_path / "disk")


def test_what_is_written_lies_on_the_disk_of_its_folder_from_the_start(tmp_path, half_old):
    with atomic_files(half_old) as temporary:
        assert half_old in temporary.parents
