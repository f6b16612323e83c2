"""The page on which a person tries a model: one HTML file, which needs nothing from the network."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from thaw.report.style import STYLE
from thaw.serving.answers import Model
from thaw.serving.server import MAX_BYTES

SOURCE = Path(__file__).with_name("page.html")


def facts(model: Model, key: str, without: str) -> dict[str, object]:
    """Return what the script of the page reads.

    Args:
        model: that answers.
        key: of the server; see there.
        without: why there are no training photographs; empty if there are.
    """
    run = model.run
    return {
        "key": key,
        "classes": model.description.classes,
        "several": model.has_several,
        "thresholds": model.thresholds,
        "calibrated": model.is_calibrated,
        "photographs": run and len(run),
        "far": run and run.far,
        "limit": run and run.limit,
        "without": without,
        "has_map": model.has_map,
        "max_bytes": MAX_BYTES,
    }


def render(facts: Mapping[str, object]) -> tuple[bytes, str]:
    """Return the page, and the content security policy that it is sent with.

    The policy allows the one script and the one style of the page, by their hashes, pictures that the page holds
    itself, and requests to its own server.

    Args:
        facts: those of `facts`, as JSON has them.
    """
    source = SOURCE.read_text(encoding="utf-8")
    style = STYLE + _between(source, "<style>", "</style>").removeprefix("{style}")
    script = _between(source, "<script>", "</script>")
    policy = [
        "default-src 'none'",
        f"script-src {_hash(script)}",
        f"style-src {_hash(style)}",
        "img-src data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    text = json.dumps(facts, ensure_ascii=False).replace("<", "\\u003c")  # no class can end the element
    page = source.replace("{style}", STYLE, 1).replace("{facts}", text, 1)
    return page.encode(), "; ".join(policy)


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
