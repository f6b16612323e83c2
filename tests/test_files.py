"""An output is whole or absent, whatever ends the block that writes it."""

import pytest

from thaw.files import partial, whole_file, whole_folder


class Stopped(BaseException):
    """As a Ctrl-C is: no Exception."""


def listing(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert listing(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, OSError, Stopped])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), whole_file(path) as temporary:
        temporary.write_text("ha")
        raise error
    assert path.read_text() == "old"
    assert listing(tmp_path) == ["file.txt"]


def test_an_error_before_the_first_byte_is_the_one_that_is_seen(tmp_path):
    with pytest.raises(ValueError, match="the real one"), whole_file(tmp_path / "file.txt"):
        raise ValueError("the real one")
    assert listing(tmp_path) == []


def test_a_file_that_was_never_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "file.txt"):
        pass


def test_a_file_replaces_what_a_kill_left(tmp_path):
    path = tmp_path / "file.txt"
    partial(path).write_text("what a kill left behind, longer than what follows")
    with whole_file(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert listing(tmp_path) == ["file.txt"]


def test_a_folder_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "folder"
    with whole_folder(path) as temporary:
        (temporary / "a").write_text("whole")
        assert not path.exists()
    assert listing(path.parent) == ["folder", "folder/a"]


@pytest.mark.parametrize("error", [ValueError, OSError, Stopped])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(error), whole_folder(path) as temporary:
        (temporary / "new").touch()
        raise error
    assert listing(tmp_path) == ["folder", "folder/old"]


def test_a_folder_replaces_the_whole_of_the_old_one(tmp_path):
    path = tmp_path / "folder"
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "old").touch()
    with whole_folder(path) as temporary:
        (temporary / "new").touch()
    assert listing(tmp_path) == ["folder", "folder/new"]


def test_a_folder_holds_nothing_of_what_a_kill_left(tmp_path):
    path = tmp_path / "folder"
    partial(path).mkdir()
    (partial(path) / "left").touch()
    with whole_folder(path) as temporary:
        assert listing(temporary) == []
        (temporary / "new").touch()
    assert listing(tmp_path) == ["folder", "folder/new"]


def test_a_folder_is_made_after_a_kill_between_the_two_renames(tmp_path):
    path = tmp_path / "folder"
    old = tmp_path / ".folder.old.partial"
    old.mkdir()
    (old / "left").touch()
    partial(path).mkdir()
    with whole_folder(path) as temporary:
        (temporary / "new").touch()
    assert listing(tmp_path) == ["folder", "folder/new"]


def test_temporary_names_are_beside_their_place_and_hidden_from_git(tmp_path):
    assert partial(tmp_path / "model.keras").parent == tmp_path
    assert partial(tmp_path / "model.keras").name.startswith(".")
    assert partial(tmp_path / "model.keras").name.endswith(".partial")
