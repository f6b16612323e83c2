"""Files of any kind become upright RGB pixels; a file that cannot be read is one line; views have their exact size."""

import dataclasses
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from thaw.core.errors import ThawError
from thaw.images import decoding, pixel_values
from thaw.sources import folder, remarks
from thaw.sources.collection import collect

HEIGHT, WIDTH = 24, 36
# EXIF orientation → the function that makes the stored pixels upright.
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def drawing(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(height, width, 3) uint8: a smooth gradient of its own in each channel, with no symmetry."""
    down, across = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([255 * across, 200 * down, 255 * (1 - across * down)], axis=2).astype(np.uint8)


def encode(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """Write a PNG by hand: of a kind that Pillow does not write, or that lies about its size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def oriented(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def refusal(source: Path | bytes) -> str:
    with pytest.raises(ThawError) as caught:
        decoding.decode(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files that cannot be read


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_a_truncated_image_is_refused(tmp_path, format, kept):
    data = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), format)
    path = tmp_path / "photograph.img"
    path.write_bytes(data[: int(len(data) * kept)])
    assert str(path) in refusal(path)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    assert refusal(path) == f"{path}: not an image that can be read"


def test_text_named_as_an_image_is_refused(tmp_path):
    path = tmp_path / "text.jpg"
    path.write_text("<html>404 not found</html>" * 100)
    assert refusal(path) == f"{path}: not an image that can be read"


def test_a_missing_file_is_refused(tmp_path):
    assert refusal(tmp_path / "none.jpg") == f"{tmp_path}/none.jpg: no such file"


def test_a_folder_named_as_an_image_is_refused(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    assert "folder.jpg" in refusal(tmp_path / "folder.jpg")


def test_pixels_without_a_known_range_are_refused():
    assert "floating-point" in refusal(encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


@pytest.mark.parametrize("side", [15_000, 30_000, 2**31 - 1])
def test_a_header_that_claims_gigabytes_is_refused_before_they_are_taken(side):
    assert refusal(png(side, side, 8, 2, b"")) == "image: over 200 megapixels"


def test_a_header_that_claims_gigabytes_is_refused_on_every_thread():
    bomb = png(15_000, 15_000, 8, 2, b"")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(refusal, [bomb] * 200)) == {"image: over 200 megapixels"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"])
def test_damage_anywhere_is_refused_in_one_line_or_read_over(format):
    data = encode(drawing(), format, **({} if format in ("GIF", "BMP") else {"exif": oriented(6)}))
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(300):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 3):
            damaged[position] = rng.integers(256)
        try:
            assert decoding.decode(bytes(damaged), 16).ndim == 3
            read += 1
        except ThawError as error:
            assert "\n" not in str(error)
    assert read < 300


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_data_do_not_spoil_the_photograph():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\xff\x7f"
    decoded = decoding.decode(encode(drawing(), "JPEG", exif=exif))
    assert decoded.shape == (WIDTH, HEIGHT, 3)


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0", b"Exif\0\0" + bytes(64), b"Exif\0\0nothing of the kind"])
@pytest.mark.parametrize(("format", "options"), [("JPEG", {"dpi": (72, 72)}), ("PNG", {}), ("WEBP", {})])
def test_with_unreadable_exif_data_the_photograph_keeps_its_stored_orientation(format, options, exif):
    decoded = decoding.decode(encode(drawing(), format, exif=exif, **options))
    np.testing.assert_array_equal(decoded, decoding.decode(encode(drawing(), format, **options)))


# Files that can be read


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_a_lossless_image_keeps_its_pixels(format):
    np.testing.assert_array_equal(decoding.decode(encode(drawing(), format)), drawing())


def test_a_path_reads_as_its_bytes_do(tmp_path):
    path = tmp_path / "photograph.jpg"
    path.write_bytes(encode(drawing(), "JPEG"))
    np.testing.assert_array_equal(decoding.decode(path), decoding.decode(path.read_bytes()))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_close_to_what_was_drawn(progressive):
    decoded = decoding.decode(encode(drawing(96, 128), "JPEG", quality=95, progressive=progressive))
    assert np.abs(decoded.astype(int) - drawing(96, 128)).max() < 12


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_comes_out_in_its_colours(format):
    color = (200, 60, 30)
    data = encode(Image.new("RGB", (16, 16), color).convert("CMYK"), format)
    assert np.abs(decoding.decode(data).astype(int) - color).max() < 8


def test_sixteen_bits_of_grey_are_scaled_to_eight():
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    decoded = decoding.decode(encode(values, "PNG"))
    np.testing.assert_array_equal(decoded, np.repeat([[[0], [0], [1], [1], [128], [255]]], 3, axis=2))


def test_sixteen_bits_a_colour_are_scaled_to_eight():
    row = struct.pack(">B6H", 0, 65535, 32768, 0, 257, 514, 771)
    decoded = decoding.decode(png(2, 1, 16, 2, row))
    np.testing.assert_allclose(decoded[0], [[255, 128, 0], [1, 2, 3]], atol=1)


def test_grey_stands_in_all_three_channels():
    grey = drawing()[:, :, 0]
    np.testing.assert_array_equal(decoding.decode(encode(grey, "PNG")), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [HEIGHT, 16, 48])
def test_a_grey_photograph_is_resized_as_one_channel_and_its_view_has_three_equal_channels(depth, resize, size):
    stored = drawing()[:, :, 0].astype(depth) * (257 if depth == np.uint16 else 1)
    decoded = decoding.decode(encode(stored, "PNG"))
    assert decoding.grey_channel(decoded).shape == (HEIGHT, WIDTH)
    coloured = decoded.copy()
    assert decoding.grey_channel(coloured) is None
    canvas, expected = (decoding.fit(pixels, size, resize) for pixels in (decoded, coloured))
    assert decoding.grey_channel(canvas) is not None
    np.testing.assert_array_equal(canvas, expected)
    np.testing.assert_array_equal(decoding.centre_crop(canvas, size), decoding.centre_crop(expected, size))
    assert decoding.centre_crop(canvas, size).flags.c_contiguous


def test_one_bit_is_black_or_white():
    bits = np.arange(32).reshape(4, 8) % 3 == 0
    decoded = decoding.decode(encode(Image.fromarray(bits), "PNG"))
    np.testing.assert_array_equal(decoded, np.where(bits, 255, 0)[:, :, None].repeat(3, axis=2))


def test_a_palette_is_looked_up():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    np.testing.assert_array_equal(decoding.decode(encode(image, "PNG")), [[[10, 20, 30], [200, 100, 50]]])


def test_a_transparent_entry_of_a_palette_is_laid_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    np.testing.assert_array_equal(
        decoding.decode(encode(image, "PNG", transparency=0)), [[[255, 255, 255], [200, 100, 50]]]
    )


def test_transparency_is_laid_over_white():
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 128]]], np.uint8)
    decoded = decoding.decode(encode(pixels, "PNG"))
    np.testing.assert_allclose(decoded, [[[200, 0, 0], [255, 255, 255], [227, 127, 127]]], atol=1)


def test_transparent_grey_is_laid_over_white():
    pixels = np.array([[[40, 255], [40, 0]]], np.uint8)
    decoded = decoding.decode(encode(Image.fromarray(pixels, "LA"), "PNG"))
    np.testing.assert_array_equal(decoded, [[[40] * 3, [255] * 3]])


@pytest.mark.parametrize(("mode", "color"), [("RGB", (9, 8, 7)), ("L", 9)])
def test_a_colour_that_means_transparent_is_laid_over_white(mode, color):
    image = Image.new(mode, (2, 1), color)
    image.putpixel((1, 0), (1, 2, 3) if mode == "RGB" else 1)
    decoded = decoding.decode(encode(image, "PNG", transparency=color))
    np.testing.assert_array_equal(decoded, [[[255] * 3, [1, 2, 3] if mode == "RGB" else [1] * 3]])


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_the_first_frame_of_an_animation_counts(format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decoding.decode(data), np.full((8, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])  # a TIFF is turned by Pillow itself
@pytest.mark.parametrize("number", ORIENTATIONS)
def test_a_photograph_stands_upright(number, format):
    decoded = decoding.decode(encode(drawing(), format, exif=oriented(number)))
    np.testing.assert_array_equal(decoded, ORIENTATIONS[number](drawing()))


@pytest.mark.parametrize("number", ORIENTATIONS)
def test_a_photograph_stands_upright_when_it_is_scaled_while_decoding(number):
    pixels = drawing(128, 192)
    decoded = decoding.decode(encode(pixels, "JPEG", quality=95, exif=oriented(number)), 32)
    upright = ORIENTATIONS[number](pixels)[::4, ::4]
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).max() < 16


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "I;16"])
def test_every_kind_of_pixel_stands_upright(mode):
    image = Image.fromarray(drawing())
    image = Image.fromarray(drawing()[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    np.testing.assert_array_equal(
        decoding.decode(encode(image, "PNG", exif=oriented(6))), np.rot90(decoding.decode(encode(image, "PNG")), -1)
    )


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "RGB"])
def test_a_turned_tiff_is_the_same_pixels_from_a_file_as_from_its_bytes(mode, tmp_path):
    image = Image.fromarray(drawing()[:, :, 0].astype(np.uint16) * 257)
    image = image if mode == "I;16" else Image.fromarray(drawing()).convert(mode)
    path = tmp_path / "a.tif"
    path.write_bytes(encode(image, "TIFF", exif=oriented(6)))
    np.testing.assert_array_equal(decoding.decode(path), decoding.decode(path.read_bytes()))
    np.testing.assert_array_equal(decoding.decode(path), np.rot90(decoding.decode(encode(image, "TIFF")), -1))


@pytest.mark.parametrize("number", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_passed_over(number):
    np.testing.assert_array_equal(decoding.decode(encode(drawing(), "PNG", exif=oriented(number))), drawing())


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (1, 7)])
def test_an_image_of_any_shape_is_read(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(decoding.decode(encode(pixels, "PNG"), 224), pixels)


@pytest.mark.parametrize("min_size", [1, 31, 100, 224, 300, 512, 1000])
@pytest.mark.parametrize("shape", [(513, 1030), (1030, 513), (299, 301), (1024, 1024)])
def test_scaled_decoding_keeps_the_smallest_side_requested(shape, min_size):
    decoded = decoding.decode(encode(drawing(*shape), "JPEG"), min_size)
    assert min(decoded.shape[:2]) >= min(min_size, min(shape))
    assert decoded.shape[0] / decoded.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.02)


def test_scaled_decoding_does_scale():
    assert decoding.decode(encode(drawing(1024, 1024), "JPEG"), 128).shape == (128, 128, 3)


def test_only_scaling_makes_a_decoded_image_smaller():
    assert decoding.decode(encode(drawing(1024, 1024), "JPEG")).shape == (1024, 1024, 3)


def test_a_file_is_the_same_pixels_on_every_thread(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(16):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(encode(rng.integers(0, 256, (200, 300, 3), np.uint8), "JPEG", exif=oriented(i % 8 + 1)))

    def plain_view(path: Path) -> bytes:
        return decoding.centre_crop(decoding.fit(decoding.decode(path, 64), 64, "crop"), 64).tobytes()

    one_by_one = [plain_view(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(plain_view, paths * 5)) == one_by_one * 5


# Canvas and view

SHAPES = [(300, 300), (301, 299), (299, 301), (768, 1024), (1024, 768), (225, 225), (100, 133), (133, 100), (1, 1),
          (3, 2), (224, 226), (1, 5000), (5000, 1), (449, 451), (37, 1999)]  # fmt: skip


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [32, 224, 225, 299])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_view_has_its_exact_size_and_lies_within_the_canvas(shape, size, resize):
    canvas = decoding.fit(np.zeros((*shape, 3), np.uint8), size, resize)
    assert min(canvas.shape[:2]) == size
    assert decoding.centre_crop(canvas, size).shape == (size, size, 3)


@pytest.mark.parametrize("shape", [(60, 90), (90, 60)])
def test_crop_takes_the_middle_square(shape):
    pixels = drawing(*shape)
    top, left = (shape[0] - 60) // 2, (shape[1] - 60) // 2
    np.testing.assert_array_equal(
        decoding.centre_crop(decoding.fit(pixels, 60, "crop"), 60), pixels[top : top + 60, left : left + 60]
    )


def test_crop_keeps_what_lies_beyond_the_view():
    assert decoding.fit(drawing(60, 90), 30, "crop").shape == (30, 45, 3)


@pytest.mark.parametrize("shape", [(1, 5000), (5000, 1), (10, 30_000)])
def test_the_canvas_of_a_very_long_image_is_no_longer_than_a_shift_can_reach(shape):
    canvas = decoding.fit(np.zeros((*shape, 3), np.uint8), 224, "crop")
    assert sorted(canvas.shape[:2]) == [224, decoding.MAX_VIEWS_PER_CANVAS * 224]


def test_the_canvas_of_a_very_long_image_is_its_middle():
    pixels = np.zeros((32, 5000, 3), np.uint8)
    pixels[:, 2500:] = 255
    view = decoding.centre_crop(decoding.fit(pixels, 32, "crop"), 32)
    assert (view[:, :16] == 0).all()
    assert (view[:, 16:] == 255).all()


@pytest.mark.parametrize("shape", [(30, 60), (60, 30)])
def test_pad_shows_all_of_it_between_two_equal_black_bars(shape):
    view = decoding.fit(np.full((*shape, 3), 200, np.uint8), 60, "pad")
    view = view if shape[0] < shape[1] else view.swapaxes(0, 1)
    assert (view[15:45] == 200).all()
    assert (view[:15] == 0).all()
    assert (view[45:] == 0).all()


def test_squash_brings_every_corner_into_the_view():
    pixels = np.full((80, 200, 3), 100, np.uint8)
    pixels[:10, :20], pixels[-10:, -20:] = 0, 255
    view = decoding.fit(pixels, 40, "squash")
    assert view.shape == (40, 40, 3)
    assert view[0, 0, 0] == 0
    assert view[-1, -1, 0] == 255


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_an_image_of_the_right_size_is_not_touched(resize):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(decoding.centre_crop(decoding.fit(pixels, 64, resize), 64), pixels)


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("side", [7, 50, 333])
def test_resizing_keeps_a_plain_colour(resize, side):
    view = decoding.fit(np.full((side, side, 3), (10, 130, 250), np.uint8), 64, resize)
    np.testing.assert_array_equal(view, np.full((64, 64, 3), (10, 130, 250)))


def test_shrinking_averages_what_it_merges():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::4] = 200
    assert set(np.unique(decoding.fit(stripes, 32, "squash"))) == {50}


# What the numbers in a file mean

RAMP = np.linspace(0, 1, 16).reshape(4, 4)  # black to white
SHOWN = (RAMP * 255).round().astype(int)


def tiff(values: np.ndarray, bits: int, byte_order: str = "<", **tags: int | float) -> bytes:
    """Write a grey TIFF by hand: of a kind that Pillow does not write. `tags` are named `t` and their number."""
    data = values.tobytes()
    if bits == 12:  # packed
        data = b"".join(int(a << 12 | b).to_bytes(3, "big") for a, b in values.reshape(-1, 2).astype(int))
    entries = {256: values.shape[1], 257: values.shape[0], 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: len(values)}
    entries |= {279: len(data)} | {int(name[1:]): value for name, value in tags.items()}
    directory = struct.pack(byte_order + "H", len(entries))
    for tag, value in sorted(entries.items()):
        kind, code = ("f", 11) if isinstance(value, float) else ("I", 4)
        directory += struct.pack(f"{byte_order}HHI{kind}", tag, code, 1, value)
    start = b"II*\0" if byte_order == "<" else b"MM\0*"
    padding = bytes(len(data) % 2)
    return start + struct.pack(byte_order + "I", 8 + len(data + padding)) + data + padding + directory + bytes(4)


def deep_png(values: np.ndarray, *significant: int) -> bytes:
    """Write a PNG of 16 bits, grey (h, w) or with as many channels as it has; `significant` is its sBIT.

    One number of bits is that of all channels.
    """
    channels = values.shape[2] if values.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    file = png(values.shape[1], values.shape[0], 16, kind, rows)
    if not significant:
        return file
    data = b"sBIT" + bytes(significant if len(significant) == channels else significant * channels)
    return file[:33] + struct.pack(">I", channels) + data + struct.pack(">I", zlib.crc32(data)) + file[33:]


def colour_tiff(values: np.ndarray, **tags: int) -> bytes:
    """Write a TIFF (h, w, channels) of 16 bits by hand; with t284=2 each channel has its own strip."""
    height, width, channels = values.shape
    planes = np.moveaxis(values, 2, 0) if tags.get("t284") == 2 else [values]
    strips = [np.ascontiguousarray(plane).astype("<u2").tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if tags.get("t259") == 8 else strips
    starts = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    entries = {256: [width], 257: [height], 258: [16] * channels, 259: [1], 262: [2], 273: starts, 277: [channels]}
    entries |= {278: [height], 279: list(map(len, strips))} | {
        int(name[1:]): [tag] * (channels if name in ("t281", "t341") else 1) for name, tag in tags.items()
    }
    data = b"".join(strips) + bytes(sum(map(len, strips)) % 2)
    directory, beyond = struct.pack("<H", len(entries)), b""
    for tag, given in sorted(entries.items()):
        packed = struct.pack(f"<{len(given)}I", *given)
        if len(given) > 1:
            packed, beyond = struct.pack("<I", 8 + len(data) + len(beyond)), beyond + packed
        directory += struct.pack("<HHI", tag, 4, len(given)) + packed
    return b"II*\0" + struct.pack("<I", 8 + len(data) + len(beyond)) + data + beyond + directory + bytes(4)


def levels(bits: int) -> np.ndarray:
    return (RAMP * (2**bits - 1)).round().astype(np.uint16)


def colours(bits: int) -> np.ndarray:
    return np.stack([levels(bits)] * 3, axis=2)


SAYS = {
    "16 bits that are used": lambda: deep_png(levels(16)),
    "12 of 16 bits, the lowest, by sBIT": lambda: deep_png(levels(12), 12),
    "12 of 16 bits, the highest, by sBIT": lambda: deep_png(levels(12) << 4, 12),
    "10 of 16 bits, filled up, by sBIT": lambda: deep_png(levels(10) << 6 | levels(10) >> 4, 10),
    "colours of 12 of 16 bits by sBIT": lambda: deep_png(colours(12), 12),
    "grey of 12 bits by sBIT, with transparency of 16": lambda: deep_png(
        np.dstack([levels(12), np.full_like(levels(12), 65535)]), 12, 16),
    "a TIFF of 12 bits": lambda: tiff(levels(12), 12),
    "a TIFF whose white is 4,095": lambda: tiff(levels(12), 16, t341=4095),
    "a TIFF whose largest value is that of 12 bits": lambda: tiff(levels(12), 16, t281=4095),
    "a TIFF of 16 bits": lambda: tiff(levels(16), 16),
    "a TIFF of 16 bits, high byte first": lambda: tiff(levels(16).astype(">u2"), 16, ">"),
    "a TIFF of 16 bits whose white is 0": lambda: tiff(65535 - levels(16), 16, t262=0),
    "a TIFF of 8 bits whose white is 0": lambda: tiff(255 - SHOWN.astype(np.uint8), 8, t262=0),
    "a signed TIFF that names black and white": lambda: tiff(
        (RAMP * 2000 - 1000).astype(np.int16), 16, t339=2, t340=-1000.0, t341=1000.0),
    "a TIFF of numbers from 0 to 1 that says so": lambda: tiff(
        RAMP.astype(np.float32), 32, t339=3, t340=0.0, t341=1.0),
    "a TIFF of colours whose white is 4,095": lambda: colour_tiff(colours(12), t341=4095),
    "a TIFF of colours whose largest value is that of 12 bits": lambda: colour_tiff(colours(12), t281=4095),
    "colours and infrared of 16 bits that are used": lambda: colour_tiff(np.dstack([colours(16), levels(16)]), t338=0),
    "compressed planes of 16 bits that are used": lambda: colour_tiff(colours(16), t259=8, t284=2),
    "a dark PNG of 16 bits that says so": lambda: deep_png(levels(16), 16),
    "a JPEG 2000 of colours of 16 bits": lambda: cv2.imencode(
        ".jp2", np.kron(colours(16), np.ones((20, 20, 1), np.uint16)), [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    )[1].tobytes(),
    "a PGM of 12 bits": lambda: b"P5\n4 4\n4095\n" + levels(12).astype(">u2").tobytes(),
    "a JPEG 2000 of 16 bits": lambda: encode(Image.fromarray(levels(16)), "JPEG2000", irreversible=False),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAYS)
def test_what_a_file_says_of_its_values_is_followed(kind):
    decoded = decoding.decode(SAYS[kind]())
    decoded = decoded[10::20, 10::20] if len(decoded) > 4 else decoded  # JPEG 2000 has a smallest size
    np.testing.assert_allclose(decoded, np.stack([SHOWN] * 3, axis=2), atol=1)


SAYS_NOTHING = {
    "12 of 16 bits": (lambda: deep_png(levels(12)), "16-bit values that need 12 bits"),
    "8 of 16 bits": (lambda: deep_png(levels(8)), "that need 8 bits"),
    "14 bits in a TIFF": (lambda: tiff(levels(14), 16), "that need 14 bits"),
    "the largest value that occurs": (lambda: tiff(levels(12) // 2, 16, t281=2047 - 3), "that need 11 bits"),
    "8 of 32 bits": (lambda: tiff(levels(8).astype(np.uint32), 32), "32-bit values that need 8 bits"),
    "16 of 32 bits": (lambda: tiff(levels(16).astype(np.int32), 32, t339=2), "32-bit values that need 16 bits"),
    "colours of 12 bits": (lambda: deep_png(colours(12)), "16-bit values that need 12 bits"),
    "colours in planes": (lambda: colour_tiff(colours(16), t284=2), "in separate planes"),
    "colours of 12 bits in compressed planes": (
        lambda: colour_tiff(colours(12), t259=8, t284=2, t281=4095),
        "in separate planes",
    ),
    "colours of 8 bits": (lambda: deep_png(colours(8)), "that need 8 bits"),
    "grey of 12 bits with transparency": (lambda: deep_png(np.dstack([levels(12), levels(16)])), "that need 12 bits"),
    "signed values": (lambda: tiff((RAMP * 2000 - 1000).astype(np.int16), 16, t339=2), "signed values"),
    "signed bytes": (lambda: tiff((RAMP * 200 - 100).astype(np.int8), 8, t339=2), "signed values"),
    "what is no number": (
        lambda: tiff(np.where(RAMP < 1, RAMP, np.nan).astype(np.float32), 32, t339=3, t340=0.0, t341=1.0),
        "no number",
    ),
    "numbers from 0 to 255": (lambda: tiff(SHOWN.astype(np.float32), 32, t339=3), "floating-point"),
}


@pytest.mark.parametrize("kind", SAYS_NOTHING)
def test_what_a_file_does_not_say_of_its_values_is_not_guessed(kind):
    make, reason = SAYS_NOTHING[kind]
    with pytest.raises(pixel_values.UnknownDepthError) as caught:
        decoding.decode(make())
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda: deep_png(levels(12)), lambda: tiff(levels(12), 16), lambda: deep_png(
    colours(12)), lambda: tiff(levels(12).astype(np.int32), 32, t339=2)])  # fmt: skip
def test_a_person_can_say_the_depth(make):
    decoded = decoding.decode(make(), bits=12)
    np.testing.assert_allclose(decoded, np.stack([SHOWN] * 3, axis=2), atol=1)
    assert decoding.decode(make(), bits=16).max() in (15, 16)  # of colours, Pillow drops the low byte
    with pytest.raises(pixel_values.UnknownDepthError, match="do not fit into 10 bits"):
        decoding.decode(make(), bits=10)


def test_the_depth_that_a_person_says_changes_no_file_that_says_it_itself():
    says = [kind for kind in SAYS if "16 bits that are used" not in kind and "TIFF of 16 bits" not in kind]
    for kind in says:
        np.testing.assert_array_equal(decoding.decode(SAYS[kind](), bits=14), decoding.decode(SAYS[kind]()))
    np.testing.assert_array_equal(decoding.decode(encode(drawing(), "PNG"), bits=12), drawing())


def test_transparency_of_16_bits_is_blended_with_white():
    decoded = decoding.decode(deep_png(np.dstack([colours(12), np.zeros((4, 4), np.uint16)])), bits=12)
    assert (decoded == 255).all()
    opaque = np.dstack([colours(12), np.full((4, 4), 4095, np.uint16)])  # as many bits as the colours have
    np.testing.assert_allclose(decoding.decode(deep_png(opaque), bits=12), np.stack([SHOWN] * 3, axis=2), atol=1)
    infrared = colour_tiff(np.dstack([colours(12), levels(12)]), t338=0)
    np.testing.assert_allclose(decoding.decode(infrared, bits=12), np.stack([SHOWN] * 3, axis=2), atol=1)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_values_of_more_than_8_bits_are_upright_too(orientation, shape):
    values = np.broadcast_to(
        (drawing()[:, :, 0].astype(np.uint16) << 4).reshape(24, 36, *[1] * len(shape)), (24, 36, *shape)
    )
    file = deep_png(values)
    exif = oriented(orientation).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    expected = ORIENTATIONS[orientation](drawing()[:, :, 0])
    decoded = decoding.decode(file[:33] + chunk + file[33:], bits=12)
    np.testing.assert_allclose(decoded[:, :, 0], expected, atol=1)
    if not shape:
        decoded = decoding.decode(tiff(np.ascontiguousarray(values), 16, t274=orientation), bits=12)
        np.testing.assert_allclose(decoded[:, :, 0], expected, atol=1)


def test_a_black_photograph_of_16_bits_is_black():
    assert not decoding.decode(deep_png(np.zeros((4, 4), np.uint16))).any()


def test_a_cmyk_jpeg_of_photoshop_is_not_inverted():
    """Adobe stores inverted inks, and says so in a marker."""
    image = Image.fromarray(np.full((16, 16, 3), (200, 30, 30), np.uint8)).convert("CMYK")
    file = encode(image, "JPEG", quality=95)
    assert b"Adobe" in file
    np.testing.assert_allclose(decoding.decode(file)[8, 8], (200, 30, 30), atol=6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"])
def test_every_mode_of_8_bits_is_read_or_refused_in_one_line(mode):
    try:
        image = Image.fromarray(drawing()).convert(mode)
        file = encode(image, "TIFF")
    except (ValueError, OSError, KeyError):
        pytest.skip(f"Pillow does not write {mode}")
    try:
        assert decoding.decode(file).shape == (HEIGHT, WIDTH, 3)
    except ThawError as error:
        assert "\n" not in str(error)


@pytest.fixture
def cells(tmp_path):
    """A folder of two classes, of grey of 12 bits in 16, and one of 8 bits."""
    for label in "ab":
        (tmp_path / "cells" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "cells" / label / f"{number}.png").write_bytes(deep_png(levels(12) // (number + 1)))
    (tmp_path / "cells/a/8.png").write_bytes(encode(SHOWN.astype(np.uint8), "PNG"))
    return folder.find(folder.Folder(path=str(tmp_path / "cells")))


def test_photographs_of_an_unknown_depth_are_left_out_with_that_reason(cells, tmp_path):
    with pytest.raises(ThawError, match=r"^no photograph of the class 'b' could be read \(16-bit values that need"):
        collect(cells, tmp_path / "raw")


def test_a_copy_in_8_bits_keeps_the_time_at_which_it_was_taken_and_nothing_else(cells, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    exif.get_ifd(0x8769)[0x9003] = "2024:05:01 10:00:00"
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    for image in cells.images:
        image.path.write_bytes(image.path.read_bytes()[:33] + chunk + image.path.read_bytes()[33:])
    images, _ = collect(dataclasses.replace(cells, bits=12), tmp_path / "raw")
    with Image.open(tmp_path / "raw" / images.filter(label="b")["path"][0]) as copy:
        found = copy.getexif()
        assert list(found) == [0x8769] and dict(found.get_ifd(0x8769)) == {0x9003: "2024:05:01 10:00:00"}


def test_the_depth_that_a_person_says_is_known_to_all_stages(cells, tmp_path):
    images, missing = collect(dataclasses.replace(cells, bits=12), tmp_path / "raw")
    assert (len(images), len(missing)) == (7, 0)
    brightest = [decoding.decode(tmp_path / "raw" / path).max() for path in images["path"]]  # as each stage does
    assert sorted(brightest) == [85, 85, 127, 127, 255, 255, 255]
    whole = next(path for path in images["path"] if "8-" in path)
    assert (tmp_path / "raw" / whole).read_bytes() == (tmp_path / "cells/a/8.png").read_bytes()


# What is not used of a file


def test_further_pages_foreign_colour_profiles_and_transparency_are_counted(tmp_path):
    first, second = Image.fromarray(drawing()), Image.fromarray(drawing()[::-1])
    srgb, other = (ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes() for name in ("sRGB", "LAB"))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    first.save(tmp_path / "moves.gif", save_all=True, append_images=[second])
    first.save(tmp_path / "moves.png", save_all=True, append_images=[second])
    first.save(tmp_path / "plain.jpg")
    first.save(tmp_path / "srgb.jpg", icc_profile=srgb)
    first.save(tmp_path / "other.jpg", icc_profile=other)
    first.convert("L").save(tmp_path / "grey.jpg", icc_profile=other)
    first.convert("RGBA").save(tmp_path / "icon.png")
    (tmp_path / "text.jpg").write_text("no image", encoding="utf-8")
    assert remarks.count(sorted(tmp_path.iterdir())) == [
        "3 with several frames or pages, of which the first is used",
        "1 with a colour profile other than sRGB, which is not applied",
        "1 with an alpha channel, where what is transparent becomes white",
    ]
    assert remarks.count([tmp_path / "plain.jpg"]) == []


# --- Checks ---


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "L"}, {"mode": "CMYK"}, {"subsampling": 0}])
def test_a_check_at_a_reduced_scale_finds_the_faults_of_a_whole_decode(options):
    """Files cut off, with bytes changed, left out or zero: found or not, and in the same words."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (60, 80, 3), np.uint8)
    image = Image.fromarray(pixels).resize((800, 600)).convert(options.get("mode", "RGB"))
    file = io.BytesIO()
    image.save(file, "JPEG", **{name: value for name, value in options.items() if name != "mode"})
    whole, results = file.getvalue(), []
    assert decoding.check(whole) == (600, 800)
    for number in range(24):
        at, count = int(generator.integers(2, len(whole))), int(generator.integers(1, 2000))
        damaged = (
            whole[:at],
            whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :],
            whole[:at] + whole[at + count :],
            whole[:at] + bytes(len(whole) - at),
        )[number % 4]
        results.append([fault(lambda d=damaged: decoding.decode(d)), fault(lambda d=damaged: decoding.check(d))])
    assert all(by_decode == by_check for by_decode, by_check in results)
    assert 0 < sum(bool(by_check) for _, by_check in results) < len(results)


def fault(decode) -> str:
    try:
        decode()
    except ThawError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_check_gives_the_upright_size_of_a_photograph_that_it_reads_reduced(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = encode(drawing(600, 800), "JPEG", exif=exif)
    assert decoding.check(large) == ((800, 600) if orientation > 4 else (600, 800))
    assert decoding.reduced_size(large, 256).upright == decoding.check(large)


@pytest.mark.parametrize("other_side", [1, 20, 32, 33])
def test_a_side_that_shrinks_is_averaged_whether_the_other_one_shrinks_or_grows(other_side):
    stripes = np.zeros((other_side, 128, 3), np.uint8)
    stripes[:, ::4] = 200
    assert set(np.unique(decoding.fit(stripes, 32, "squash"))) == {50}
    assert set(np.unique(decoding.fit(stripes.transpose(1, 0, 2), 32, "squash"))) == {50}


@pytest.mark.parametrize("is_tall", [False, True])
def test_of_a_photograph_that_is_longer_than_any_canvas_the_middle_is_kept(is_tall):
    pixels = np.zeros((20, 201, 3), np.uint8)
    pixels[:, 100] = 255
    pixels = pixels.swapaxes(0, 1) if is_tall else pixels
    view = decoding.centre_crop(decoding.fit(pixels, 20, "crop"), 20)
    assert np.argmax(view[:, 0, 0] if is_tall else view[0, :, 0]) == 10
