"""The cache changes no result: entries are whole or absent, old ones make room, and a fault costs only time."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.core import cache as caches
from thaw.core.cache import Cache
from thaw.core.errors import ThawError
from thaw.images import decoding, views
from thaw.sources import folder
from thaw.sources.collection import collect
from thaw.splitting import thumbnails

GB = 10**9
DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a bit": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "of another file": lambda data: b"not of this cache" * 9,
    "longer": lambda data: data + b"\0",
}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", GB)


@pytest.fixture
def photograph(tmp_path, monkeypatch) -> Path:
    """A JPEG that is decoded at half its scale."""
    monkeypatch.setattr(decoding, "MIN_KEPT_BYTES", 1000)
    return draw(tmp_path / "photograph.jpg")


def draw(path: Path, mode: str = "RGB", **options) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).resize((1200, 900)).convert(mode).save(path, **options)
    return path


def age_file(cache: Cache, name: str, seconds: float) -> None:
    os.utime(cache.folder / f"{name}.thaw", (time.time() - seconds,) * 2)


def files(cache: Cache) -> list[Path]:
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


def test_what_was_kept_is_found(cache):
    cache.put("pixels/ab/c", b"content")
    assert cache.get("pixels/ab/c") == b"content"
    assert cache.get("pixels/ab/d") is None
    with cache.open("pixels/ab/c") as file:
        assert file.read() == b"content"
    assert cache.open("pixels/ab/d") is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_absent_and_is_replaced(cache, damage, capfd):
    cache.put("pixels/ab/c", b"content of some length")
    [path] = files(cache)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert cache.get("pixels/ab/c") is None and cache.get("pixels/ab/c") is None
    assert capfd.readouterr().err.count("is damaged") == 1
    cache.put("pixels/ab/c", b"content of some length")
    assert cache.get("pixels/ab/c") == b"content of some length"


def test_a_writer_that_is_killed_leaves_no_entry(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from thaw.core.cache import Cache\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "Cache(Path(sys.argv[1]), 10**9).put('pixels/ab/c', b'content')"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(caches.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment).returncode == 9
    left = Cache(tmp_path, GB)
    assert len(files_of(tmp_path)) == 1 and left.get("pixels/ab/c") is None and not left.entries()
    os.utime(files_of(tmp_path)[0], (0, 0))
    assert left.shrink(0) == 1 and not files_of(tmp_path)  # a day later, what it has written makes room


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_not_used_for_longest_makes_room(tmp_path):
    cache = Cache(tmp_path, 3 * 100)
    for age, name in ((2, "b"), (3, "a"), (0, "new")):
        cache.put(f"pixels/{name}", bytes(70))
        age_file(cache, f"pixels/{name}", age * caches.RECENT)
    cache = Cache(tmp_path, 3 * 100)
    cache.put("outputs/one", bytes(70))
    assert [path.name for path in files(cache)] == ["one.thaw", "b.thaw", "new.thaw"]
    cache.put("outputs/two", bytes(70))
    assert [path.name for path in files(cache)] == ["one.thaw", "two.thaw", "new.thaw"]


def test_what_was_used_since_it_was_counted_is_not_pushed_out(tmp_path):
    cache = Cache(tmp_path, 3 * 100)
    for age, name in ((3, "a"), (2, "b"), (0, "new")):
        cache.put(f"pixels/{name}", bytes(70))
        age_file(cache, f"pixels/{name}", age * caches.RECENT)
    cache = Cache(tmp_path, 3 * 100)
    cache._count()
    cache.get("pixels/a")
    cache.put("outputs/one", bytes(70))
    assert [path.name for path in files(cache)] == ["one.thaw", "a.thaw", "new.thaw"]


def test_what_was_used_recently_is_not_pushed_out(tmp_path, capfd):
    cache = Cache(tmp_path, 200)
    for name in "abcd":
        cache.put(f"pixels/{name}", bytes(70))
    assert [path.name for path in files(cache)] == ["a.thaw", "b.thaw"]
    said = capfd.readouterr().err
    assert said.count("is full, its limit is 0 kB (THAW_CACHE_LIMIT)") == 1


def test_reading_an_entry_notes_its_use(cache):
    cache.put("pixels/a", b"content")
    [path] = files(cache)
    os.utime(path, (0, 0))
    cache.get("pixels/a")
    assert path.stat().st_mtime > time.time() - 60


def test_a_folder_that_may_not_be_entered_does_not_end_the_run(tmp_path, monkeypatch):
    exists = Path.exists

    def refused(path: Path, **options) -> bool:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path, **options)

    monkeypatch.setattr(Path, "exists", refused)  # root may enter all
    assert caches._free(tmp_path / "closed") > 0


def test_a_nearly_full_disk_keeps_what_is_free(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(caches, "_free", lambda folder: caches.LEFT_FREE + 50)
    cache = Cache(tmp_path, GB)
    cache.put("pixels/a", bytes(70))
    assert not files(cache) and "its disk is nearly full" in capfd.readouterr().err


def test_at_least_half_of_the_free_disk_is_left_however_often_it_is_counted(tmp_path, monkeypatch):
    disk = caches.LEFT_FREE + 1_000
    monkeypatch.setattr(caches, "_free", lambda folder: disk - sum(len(path.read_bytes()) for path in files(cache)))
    monkeypatch.setattr(caches, "RECOUNT", 1)
    for run in range(9):
        cache = Cache(tmp_path, GB)
        for number in range(3):
            cache.put(f"pixels/{run}-{number}", bytes(70))
    assert 300 < sum(entry.size for entry in cache.entries()) <= 500


@pytest.mark.parametrize("limit", ["", "9" * 400, "x"])
def test_a_limit_that_is_no_size_is_one_line(limit, tmp_path, monkeypatch):
    environment = os.environ | {"THAW_CACHE": str(tmp_path)}
    command = [sys.executable, str(Path(caches.__file__).parents[2] / "cache.py"), "--limit", limit]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("thaw: --limit should be a size")
    assert result.stderr.count("\n") == 1


def test_a_full_disk_ends_the_writing_with_one_line(cache, monkeypatch, capfd):
    def fail(path, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    cache.put("pixels/a", b"content")
    cache.put("pixels/b", b"content")
    assert not files(cache)
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "No space left on device" in said


def test_a_folder_that_cannot_be_written_ends_the_writing_with_one_line(tmp_path, photograph, capfd):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache", GB)
    expected = decoding.decode(photograph, 256)
    for _ in range(2):
        np.testing.assert_array_equal(decoding.read(photograph, 256, cache), expected)
    assert capfd.readouterr().err.count("cannot be written") == 1


def test_the_environment_says_where_it_is_and_how_large(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("THAW_CACHE", "~/kept")
    monkeypatch.setenv("THAW_CACHE_LIMIT", "1.5 gb")
    cache = caches.of_environment()
    assert (cache.folder, cache.limit) == (tmp_path / "kept", 1_500_000_000)
    monkeypatch.setenv("THAW_CACHE_LIMIT", "0")
    assert caches.of_environment() is None
    monkeypatch.setenv("THAW_CACHE_LIMIT", "much")
    with pytest.raises(ThawError, match="THAW_CACHE_LIMIT should be a size such as 500MB or 20GB, or 0 for no cache"):
        caches.of_environment()


def test_the_script_shows_the_cache_and_bounds_it(tmp_path):
    cache = Cache(tmp_path / "cache", GB)
    for number, name in enumerate(("pixels/a", "pixels/b", "outputs/c/d")):
        cache.put(name, bytes(1_000_000))
        age_file(cache, name, 3600 * (9 - number))
    (tmp_path / "cache" / "networks").mkdir()
    for name in ("networks/of.predict", "pixels/a.jpg"):  # a photograph of somebody's
        (tmp_path / "cache" / name).write_text("stays")

    def script(*options: str) -> str:
        environment = os.environ | {"THAW_CACHE": str(tmp_path / "cache"), "THAW_CACHE_LIMIT": "0"}
        command = [sys.executable, Path(caches.__file__).parents[2] / "cache.py", *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert re.search(r"pixels +2 files +2 MB, last used 8.0 h ago\n +outputs +1 files +1 MB", script())
    assert "1 file removed" in script("--limit", "2.5MB")
    assert [path.name for path in files(cache)] == ["of.predict", "d.thaw", "a.jpg", "b.thaw"]
    assert "2 files removed" in script("--clear")
    assert [path.name for path in files(cache)] == ["of.predict", "a.jpg"]


def test_without_a_home_nothing_is_kept(monkeypatch, capfd):
    monkeypatch.setattr(caches, "DEFAULT_FOLDER", "~nobody-of-this-name/thaw")
    monkeypatch.delenv("THAW_CACHE", raising=False)
    monkeypatch.setenv("THAW_CACHE_LIMIT", "1GB")
    assert caches.of_environment() is None
    assert "there is no home" in capfd.readouterr().err
    monkeypatch.setenv("THAW_CACHE", "~nobody-of-this-name/thaw")
    with pytest.raises(ThawError, match="there is no such home"):
        caches.of_environment()


def test_of_two_that_write_the_same_entry_at_once_one_is_whole(tmp_path):
    writers, content = [Cache(tmp_path, GB) for _ in range(4)], bytes(range(256)) * 1000
    with ThreadPoolExecutor(8) as pool:
        written = [pool.submit(writers[i % 4].put, "pixels/a", content) for i in range(40)]
        read = [pool.submit(Cache(tmp_path, GB).get, "pixels/a") for _ in range(40)]
        assert {future.result() for future in read} <= {None, content}
    assert all(future.result() is None for future in written)
    assert [path.name for path in files_of(tmp_path)] == ["a.thaw"]


# --- Pixels ---


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_kept_pixels_are_those_of_the_decoder(tmp_path, cache, photograph, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    draw(photograph, mode, exif=exif, progressive=orientation == 6)
    expected = decoding.decode(photograph, 256)
    assert expected.shape[:2] == ((450, 600) if orientation == 1 else (600, 450))
    for _ in range(2):
        pixels = decoding.read(photograph, 256, cache)
        np.testing.assert_array_equal(pixels, expected, strict=True)
        assert (decoding.grey_channel(pixels) is None) == (decoding.grey_channel(expected) is None)
    assert len(files(cache)) == 1


def test_a_check_keeps_what_thumbnails_and_views_want(cache, photograph, monkeypatch):
    assert decoding.CHECKED_SIDE == thumbnails.MIN_DECODED_SIDE
    assert decoding.check(photograph, cache) == (900, 1200)
    assert len(files(cache)) == 1
    monkeypatch.setattr(decoding, "decode", None)  # is not called
    for size in (thumbnails.MIN_DECODED_SIDE, 256, 300):  # of the same scale
        assert decoding.read(photograph, size, cache).shape == (450, 600, 3)


def test_another_scale_and_another_content_are_decoded(cache, photograph):
    decoding.check(photograph, cache)
    assert decoding.read(photograph, 200, cache).shape == (225, 300, 3)
    before = decoding.read(photograph, 256, cache)
    status = photograph.stat()
    Image.open(photograph).rotate(180).save(photograph)
    os.utime(photograph, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = decoding.read(photograph, 256, cache)
    np.testing.assert_array_equal(after, decoding.decode(photograph, 256))
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("damage", DAMAGES)
def test_pixels_of_a_damaged_entry_are_decoded_again(cache, photograph, damage):
    expected = decoding.read(photograph, 256, cache)
    [path] = files(cache)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(decoding.read(photograph, 256, cache), expected)


def test_small_files_other_formats_and_full_scales_are_not_kept(tmp_path, cache, photograph, monkeypatch):
    decoding.read(draw(tmp_path / "a.png"), 256, cache)
    decoding.read(photograph, 800, cache)
    monkeypatch.undo()
    decoding.check(photograph, cache)
    assert not files(cache)


def test_a_damaged_photograph_is_the_same_error_with_a_cache(tmp_path, cache, photograph):
    whole = photograph.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:20], whole[:3] + bytes(2000)):
        photograph.write_bytes(content)
        errors = []
        for decode in (
            lambda: decoding.decode(photograph),
            lambda: decoding.check(photograph),
            lambda: decoding.check(photograph, cache),
            lambda: decoding.read(photograph, 256, cache),
        ):
            with pytest.raises(ThawError) as error:
                decode()
            errors.append(str(error.value))
        assert len(set(errors)) == 1 and str(photograph) in errors[0]
    assert not files(cache)


def test_too_many_pixels_are_said_before_the_work(cache, photograph, capfd):
    decoding.announce([photograph] * 1000, cache)
    decoding.announce([], cache)
    assert not capfd.readouterr().err
    cache.limit = 100_000_000
    decoding.announce([photograph] * 1000, cache)
    said = capfd.readouterr().err
    assert "1,000 photographs need about 810 MB" in said and "up to 100 MB (THAW_CACHE_LIMIT)" in said


def test_many_threads_and_two_caches_on_one_folder_agree(tmp_path, cache, photograph):
    paths = [photograph] * 40
    read = [
        thumbnails.read(paths, tmp_path / "data", each).tobytes() for each in (None, cache, Cache(cache.folder, GB))
    ]
    assert len(set(read)) == 1 and len(files(cache)) == 1


def test_photographs_that_were_collected_are_not_decoded_again(tmp_path, cache, photograph, monkeypatch):
    for number in range(4):
        image = Image.open(photograph).rotate(90 * number, expand=True)
        path = tmp_path / "mine" / ("a", "b")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, exif=image.getexif())
    listing = folder.find(folder.Folder(path=str(tmp_path / "mine")))
    decode = decoding.decode
    tables = [collect(listing, tmp_path / name, cache=each)[0] for name, each in (("raw", cache), ("plain", None))]
    assert tables[0].equals(tables[1])
    paths = [tmp_path / "raw" / path for path in tables[0]["path"]]
    monkeypatch.setattr(decoding, "decode", None)  # is not called
    small = thumbnails.read(paths, tmp_path / "data", cache)
    drawn = list(views.draw(paths, [[None]] * 4, 256, "crop", cache))
    monkeypatch.setattr(decoding, "decode", decode)
    assert small.tobytes() == thumbnails.read(paths, tmp_path / "data").tobytes()
    np.testing.assert_array_equal(drawn, list(views.draw(paths, [[None]] * 4, 256, "crop")))
