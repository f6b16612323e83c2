"""What a file holds that is not used: further frames and pages, a colour profile, and transparency."""

from collections import Counter
from collections.abc import Iterable

from thaw.core import store
from thaw.core.store import Photograph

FRAMES = "with several frames or pages, of which the first is used"
PROFILE = "with a colour profile other than sRGB, which is not applied"
CLEAR = "with an alpha channel, where what is transparent becomes white"
# In the names of profiles that are sRGB; `c2` and `uRGB` are the small ones that Facebook and others write.
SRGB = [name.encode(encoding) for name in ("sRGB", "c2ci", "uRGB") for encoding in ("ascii", "utf-16-be")]


def count(photographs: Iterable[Photograph]) -> list[str]:
    """Return a remark for each kind of content that some of the photographs have and that is not used."""
    counts = Counter(kind for photograph in photographs for kind in _kinds(photograph))
    return [f"{counts[kind]:,} {kind}" for kind in (FRAMES, PROFILE, CLEAR) if counts[kind]]


def _kinds(photograph: Photograph) -> list[str]:
    try:
        with store.open_image(photograph) as image:
            # Phones keep a second exposure, or a map of the depth, in a JPEG (MPO): the first is the photograph.
            several = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
            is_clear = image.has_transparency_data
            profile = image.info.get("icc_profile") or b""
            other = bool(profile) and image.mode not in ("L", "LA", "1", "I;16") and not any(n in profile for n in SRGB)
    except Exception:  # it has been decoded before; what is odd about it is not for here
        return []
    return [FRAMES] * several + [PROFILE] * other + [CLEAR] * is_clear
