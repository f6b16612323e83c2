"""What a file holds that is not used: further frames and pages, and a colour profile."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

FRAMES = "with several frames or pages, of which the first is used"
PROFILE = "with a colour profile other than sRGB, which is not applied"
# In the names of profiles that are sRGB; `c2` and `uRGB` are the small ones that Facebook and others write.
SRGB = [name.encode(encoding) for name in ("sRGB", "c2ci", "uRGB") for encoding in ("ascii", "utf-16-be")]


def count(paths: Iterable[Path]) -> list[str]:
    """Return a remark for each kind of content that some of the image files have and that is not used."""
    counts = Counter(kind for path in paths for kind in _kinds(path))
    return [f"{counts[kind]:,} {kind}" for kind in (FRAMES, PROFILE) if counts[kind]]


def _kinds(path: Path) -> list[str]:
    try:
        with Image.open(path) as image:
            # Phones keep a second exposure, or a map of the depth, in a JPEG (MPO): the first is the photograph.
            several = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
            profile = image.info.get("icc_profile") or b""
            other = bool(profile) and image.mode not in ("L", "LA", "1", "I;16") and not any(n in profile for n in SRGB)
    except Exception:  # it has been decoded before; what is odd about it is not for here
        return []
    return [FRAMES] * several + [PROFILE] * other
