"""What of the other sections does not work with `task: multi`: one line each says what to set instead."""

from typing import TYPE_CHECKING

from thaw.parameters.augment import AUTO
from thaw.sources.registry import SOURCES

if TYPE_CHECKING:
    from thaw.parameters.whole import Params


def problem(params: "Params") -> str | None:
    """Return why a section does not fit several labels for each photograph; None if all of them do."""
    source, head = params.download.source, params.head
    section = getattr(params.download, source)
    if SOURCES[source].find_several is None:
        several = ", ".join(name for name, other in SOURCES.items() if other.find_several)
        return f"task: multi needs a download.source with several labels a photograph ({several}), not {source}"
    if getattr(section, "unlisted", "") is None:
        return (
            f"download.{source}.unlisted must be chosen with task: multi: absent if each photograph lists all of the "
            "classes that it shows, unknown if it may show others too"
        )
    problems = {
        "download.added must be null": params.download.added is not None,
        "download.corrections must be null": params.download.corrections is not None,
        "split.folds must be null": params.split.folds is not None,
        "augment.preset must be named, not auto": params.augment.preset == AUTO,
        "image.resize must be named, not auto": params.image.resize == AUTO,
        "head.extend must be null": bool(head.extend),
        "head.probes must have logistic": head.kind == "linear" and "logistic" not in head.probes,
        "evaluate.threshold must be 0.5": params.evaluate.threshold != 0.5,
    }
    failing = [text for text, fails in problems.items() if fails]
    return f"{'; '.join(failing)}: nothing else works with task: multi" if failing else None
