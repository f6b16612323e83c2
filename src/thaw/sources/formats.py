"""What a file is by its first bytes: its name may end with anything.

The one rule for training and for predicting: a file is what its content says. This module imports nothing heavy, and
reads HEAD bytes of a file.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

HEAD = 512  # bytes that are read of a file: an SVG may begin with a comment, and DICOM has its mark at byte 128

# The endings that images have. Their content counts; but a file with such an ending was meant as a photograph, so that
# one which is empty or damaged is one that cannot be read, not another file.
ENDINGS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".pam",
    ".tga", ".icb", ".vda", ".vst", ".qoi", ".ico", ".cur", ".icns", ".dds", ".blp", ".pcx", ".dcx", ".sgi", ".ras",
    ".xbm", ".xpm", ".msp", ".pcd", ".im",
    # Of these Pillow reads none, or few.
    ".heic", ".heif", ".jxl", ".jxr", ".wdp", ".hdp", ".bpg", ".flif", ".psd", ".psb", ".xcf", ".exr", ".hdr", ".dpx",
    ".cin", ".pct", ".pict", ".wmf", ".emf", ".djvu", ".ecw", ".sid", ".fits", ".dcm", ".dicom", ".nii", ".nrrd",
    ".mha", ".mrc", ".czi", ".lif", ".nd2", ".oib", ".vsi", ".svs", ".raw",
}  # fmt: skip
RAW_ENDINGS = {  # of cameras whose files begin like TIFF; as such, most hold no more than a small preview
    ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc", ".mef", ".mos", ".nef", ".nrw",
    ".crw", ".mrw", ".orf", ".pef", ".ptx", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Attributes:
        name: of the format, such as `JPEG`; empty if the content is of no known kind.
        problem: why it cannot be used as a photograph; empty if it can.
        is_picture: a picture, a film or an archive of some: a person may have meant it as a photograph.
        is_broken: an image by its ending alone: it cannot be read, and the decoder may know more.
        is_text: notes, tables, annotations or code.
    """

    name: str
    problem: str = ""
    is_picture: bool = True
    is_broken: bool = False
    is_text: bool = False


NO_FILE = Kind("", "not a file", is_picture=False)
PROBLEMS = {  # of formats that are known and not read, with what helps
    "HEIC": "HEIC, which is not read: save it as JPEG",
    "JPEG XL": "JPEG XL, which is not read: save it as JPEG",
    "JPEG XR": "JPEG XR, which is not read: save it as JPEG",
    "RAW": "a camera's RAW file: develop it as JPEG",
    "PSD": "a Photoshop file: save it as PNG",
    "XCF": "a GIMP file: save it as PNG",
    "SVG": "an SVG drawing: save it as PNG",
    "PostScript": "a PostScript drawing: save it as PNG",
    "PDF": "a PDF: save its pictures as JPEG",
    "video": "a video: save pictures of it as JPEG",
    "DICOM": "DICOM: save it as PNG",
    "EXR": "OpenEXR, which is not read: save it as PNG",
    "HDR": "Radiance HDR, which is not read: save it as PNG",
    "FITS": "FITS, which is not read: save it as PNG",
    "PAM": "PAM, which is not read: save it as PNG",
    "BPG": "BPG, which is not read: save it as PNG",
    "FLIF": "FLIF, which is not read: save it as PNG",
    "DPX": "DPX, which is not read: save it as PNG",
    "Cineon": "Cineon, which is not read: save it as PNG",
    "metafile": "a drawing of Windows (WMF, EMF): save it as PNG",
    "DjVu": "DjVu, which is not read: save its pictures as PNG",
    "volume": "a volume of several slices: save each slice as PNG",
    "array": "an array: save each picture as PNG",
    "archive": "an archive: unpack it",
    "compressed": "compressed: unpack it",
    "Git LFS": "a pointer of Git LFS: run git lfs pull",
    "git-annex": "a pointer of git-annex: run git annex get",
    "DVC": "a pointer of DVC: run dvc pull",
}
BESIDE = {"array", "compressed"}  # as data sets hold beside their pictures: features, labels, logs
NO_IMAGE = "not an image by its content"
UNREADABLE = "not an image that can be read"
EMPTY = "an empty file"
ZEROS = "only zero bytes, as an interrupted copy leaves them"
WEB_PAGE = "a web page, as a failed download leaves it"

OWN_ENDINGS = {  # of formats that other endings are no name for
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif", ".jif"}, "PNG": {".png", ".apng"}, "WebP": {".webp"}, "GIF": {".gif"},
    "BMP": {".bmp", ".dib"}, "TIFF": {".tif", ".tiff"}, "AVIF": {".avif"},
}  # fmt: skip
COMMON_ENDINGS = {  # by which other programs, such as FiftyOne, know an image
    "JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "WebP": (".webp",), "GIF": (".gif",), "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"), "AVIF": (".avif",),
}  # fmt: skip
MISLEADING = set().union(*OWN_ENDINGS.values()) | {".heic", ".heif"} | RAW_ENDINGS

BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"qoif": "QOI",
    b"\n\0\1": "PCX",
    b"\n\2\1": "PCX",
    b"\n\3\1": "PCX",
    b"\n\5\1": "PCX",
    b"\xb1\x68\xde\x3a": "PCX",  # several of them: DCX
    b"\1\xda\0": "SGI",
    b"\1\xda\1": "SGI",
    b"DDS |\0\0\0": "DDS",
    b"icns": "ICNS",
    b"BLP1": "BLP",
    b"BLP2": "BLP",
    b"/* XPM */": "XPM",
    b"\x59\xa6\x6a\x95": "Sun raster",
    b"P7\n": "PAM",
    b"BPG\xfb": "BPG",
    b"FLIF": "FLIF",
    b"SDPX": "DPX",
    b"XPDS": "DPX",
    b"\x80\x2a\x5f\xd7": "Cineon",
    b"\xd7\xcd\xc6\x9a": "metafile",
    b"AT&TFORM": "DjVu",
    b"NRRD000": "volume",
    b"ObjectType = Image": "volume",  # MetaImage
    b"ZISRAWFILE": "volume",  # Zeiss
    b"\xda\xce\xbe\x0a": "volume",  # Nikon
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"II\xbc": "JPEG XR",
    b"FUJIFILMCCD-RAW": "RAW",
    b"IIRO": "RAW",
    b"IIRS": "RAW",
    b"MMOR": "RAW",
    b"IIU\0": "RAW",
    b"FOVb": "RAW",
    b"\0MRM": "RAW",
    b"8BPS": "PSD",
    b"gimp xcf": "XCF",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"\x1a\x45\xdf\xa3": "video",
    b"\0\0\x01\xba": "video",
    b"\0\0\x01\xb3": "video",
    b"0&\xb2u\x8ef\xcf\x11": "video",
    b"FLV\x01": "video",
    b"v/1\x01": "EXR",
    b"#?RADIANCE": "HDR",
    b"SIMPLE  =": "FITS",
    b"\x93NUMPY": "array",
    b"\x89HDF\r\n\x1a\n": "array",
    b"MATLAB 5.0": "array",
    b"PK\x03\x04": "archive",
    b"7z\xbc\xaf\x27\x1c": "archive",
    b"Rar!\x1a\x07": "archive",
    b"\x1f\x8b": "compressed",
    b"BZh": "compressed",
    b"\xfd7zXZ\0": "compressed",
    b"\x28\xb5\x2f\xfd": "compressed",
    b"version https://git-lfs.github.com/spec": "Git LFS",
    b"/annex/objects/": "git-annex",
    b"outs:\n- md5:": "DVC",
}
LENGTHS = sorted({len(beginning) for beginning in BEGINNINGS}, reverse=True)
BOXES = {  # the brands of files that begin with a box `ftyp`; all others are videos
    b"avif": "AVIF", b"avis": "AVIF", b"crx ": "RAW",
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC",
    b"mif1": "HEIC", b"msf1": "HEIC", b"jpx ": "JPEG 2000", b"jp2 ": "JPEG 2000",
}  # fmt: skip


def kind(path: Path) -> Kind:
    """Return what a file is; raises OSError if it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would be waited for
    except OSError as error:
        if error.errno == errno.ENXIO and not path.is_file():  # a socket
            return NO_FILE
        raise
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return NO_FILE
        head = os.read(file, HEAD)
    finally:
        os.close(file)
    found = kind_of(head, path.suffix.lower())
    if found.name == "compressed" and Path(path.stem).suffix.lower() in ENDINGS | RAW_ENDINGS:  # 1.nii.gz, 1.pgm.gz
        return replace(found, is_picture=True)
    return found


def kind_of(head: bytes, ending: str) -> Kind:
    """Return what a file is.

    Args:
        head: its first HEAD bytes, or all if it is shorter.
        ending: of its name, in lower case, with its dot. It counts where formats begin alike or have no beginning.
    """
    name = _format(head)
    if name == "TIFF" and (ending in RAW_ENDINGS or head[8:10] == b"CR"):
        name = "RAW"
    if not name and ending == ".tga" and _is_tga(head):
        name = "TGA"
    if name:
        problem = PROBLEMS.get(name, "")
        is_broken = ending in ENDINGS and name in ("Git LFS", "git-annex", "DVC")
        return Kind(name, problem, is_picture=name not in BESIDE, is_broken=is_broken)
    meant = ending in ENDINGS | RAW_ENDINGS
    if not head.strip(b"\0"):
        return Kind("", ZEROS if head else EMPTY, is_picture=meant or not ending, is_broken=meant, is_text=not head)
    if _is_web_page(head) and meant:
        return Kind("", WEB_PAGE, is_broken=True)
    return Kind("", UNREADABLE if meant else NO_IMAGE, is_picture=meant, is_broken=meant, is_text=_is_text(head))


def is_misnamed(name: str, ending: str) -> bool:
    """Return whether the ending, in lower case, is that of another format than the one of this name."""
    return name in OWN_ENDINGS and ending in MISLEADING and ending not in OWN_ENDINGS[name]


def ending(name: str, own: str) -> str:
    """Return the ending for a file of the format `name`: its `own`, in lower case, if that is a common one of it."""
    common = COMMON_ENDINGS.get(name, ())
    return own if own in common or not common else common[0]


def _format(head: bytes) -> str:
    for length in LENGTHS:
        if name := BEGINNINGS.get(head[:length]):
            return name
    return next((name for matches, name in RULES if matches(head)), _box(head))


def _box(head: bytes) -> str:
    """Return the format of a file of boxes, as HEIC, AVIF and most videos are; else an empty text."""
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip") and head[:1] == b"\0":
        return "video"
    if head[4:8] != b"ftyp":
        return ""
    length = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[start : start + 4] for start in range(16, min(length, len(head)), 4))]
    if brands[0] in (b"mif1", b"msf1") and b"avif" in brands:
        return "AVIF"
    return BOXES.get(brands[0], "video")


def _is_netpbm(head: bytes) -> bool:
    return head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3] in (b" ", b"\t", b"\n", b"\r", b"#")


def _is_bmp(head: bytes) -> bool:
    """A BMP says how long its header is; text that begins with BM does not."""
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


def _is_ico(head: bytes) -> bool:
    """An icon or a cursor says how many images it holds; the first one lies behind the list of them."""
    count = int.from_bytes(head[4:6], "little")
    is_listed = len(head) > 21 and head[9] == 0 and int.from_bytes(head[18:22], "little") >= 6 + 16 * count
    return head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and 0 < count < 256 and is_listed


def _is_text(head: bytes) -> bool:
    """In UTF-8, or in an encoding of one byte without control characters, or in UTF-16 with its mark."""
    return head[:2] in (b"\xff\xfe", b"\xfe\xff") or not any(b < 32 and b not in b"\t\n\f\r\x1b" for b in head)


def _is_tga(head: bytes) -> bool:
    return (
        len(head) > 18 and head[1] in (0, 1) and head[2] in (1, 2, 3, 9, 10, 11) and head[16] in (1, 8, 15, 16, 24, 32)
    )


def _is_svg(head: bytes) -> bool:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return start[:1] == b"<" and b"<svg" in start


def _is_web_page(head: bytes) -> bool:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<error"))


RULES: list[tuple[Callable[[bytes], bool], str]] = [
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", "WebP"),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", "video"),
    (lambda head: head[128:132] == b"DICM", "DICOM"),
    (lambda head: head[257:262] == b"ustar", "archive"),
    (_is_netpbm, "PNM"),
    (_is_bmp, "BMP"),
    (_is_ico, "ICO"),
    (lambda head: head[:4] == b"\1\0\0\0" and head[40:44] == b" EMF", "metafile"),
    (lambda head: head[344:348] in (b"n+1\0", b"ni1\0"), "volume"),  # NIfTI
    (lambda head: head[6:14] == b"HEAPCCDR", "RAW"),  # Canon
    (_is_svg, "SVG"),
]
