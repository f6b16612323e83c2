"""An archive holds files of any names under one: complete or absent, and the same bytes for the same files."""

import os

import pytest

from thaw.core import archive
from thaw.core.errors import ThawError


def pack(path, names=("start/kernel.npy", "head.json")):
    with archive.pack(path) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(name.encode() * 1000)


def test_what_was_packed_is_unpacked(tmp_path):
    pack(tmp_path / "made" / "head.zip")
    with archive.unpack(tmp_path / "made" / "head.zip") as folder:
        files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")}
    assert files == {name: name.encode() * 1000 for name in ("head.json", "start/kernel.npy")}
    assert not folder.exists()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["head.zip"]


def test_the_same_files_give_the_same_bytes(tmp_path):
    pack(tmp_path / "one")
    with archive.pack(tmp_path / "two") as folder:
        for name in ("head.json", "start/kernel.npy"):  # in another order, at another time, with another mode
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(name.encode() * 1000)
            (folder / name).chmod(0o600)
            os.utime(folder / name, (10**9, 10**9))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_error_leaves_the_old_archive(tmp_path):
    pack(tmp_path / "head.zip")
    before = (tmp_path / "head.zip").read_bytes()
    with pytest.raises(KeyboardInterrupt), archive.pack(tmp_path / "head.zip") as folder:
        (folder / "head.json").write_text("new")
        raise KeyboardInterrupt
    assert (tmp_path / "head.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["head.zip"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "is missing: run `dvc repro`"), (b"", "damaged"), (b"PK", "damaged"), ("byte", "damaged")],
)
def test_an_archive_that_is_missing_or_damaged_is_one_line(tmp_path, content, said):
    path = tmp_path / "head.zip"
    if content == "byte":
        pack(path)
        content = bytearray(path.read_bytes())
        content[100] ^= 255  # of a file in it
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ThawError, match=said) as caught, archive.unpack(path):
        pass
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_in_an_archive_names_the_archive(tmp_path):
    with archive.pack(tmp_path / "head.zip") as folder:
        (folder / "one").write_text("1")
    with (
        pytest.raises(ThawError, match=r"head\.zip is damaged \(two is missing in it\)"),
        archive.unpack(tmp_path / "head.zip") as folder,
    ):
        (folder / "two").read_text()
