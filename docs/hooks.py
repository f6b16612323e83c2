"""The order of the handbook's pages, for MkDocs. A page that is not named here comes last in its part."""

from pathlib import Path

PARTS = {  # folder, its name, and its pages in their order
    "start": ("Start", ["index", "own-photographs", "table", "open-images", "fiftyone"]),
    "guides": (
        "Guides",
        [
            "read-the-report", "change-settings", "choose-a-depth", "few-photographs", "many-photographs",
            "millions-and-gpus", "cluster", "backbones", "transformers", "several-labels", "several-labels-report",
            "more-classes", "use-the-model", "try-the-model", "drift", "what-to-label-next", "export", "explore",
            "compare", "share", "when-it-fails",
        ],
    ),
    "reference": ("Reference", ["parameters", "scripts", "artifacts", "reruns"]),
    "understand": ("Understand", ["frozen-once", "statistics", "same-bytes", "limits"]),
    "measured": ("Measured", ["index", "compared", "speed", "how-sure"]),
}  # fmt: skip


def navigation(docs: Path) -> list[dict]:
    """Return the navigation: every page of the folder, once."""
    parts: list[dict] = [{"Handbook": "index.md"}]
    for folder, (name, order) in PARTS.items():
        found = sorted(page.stem for page in (docs / folder).glob("*.md"))
        pages = [*(stem for stem in order if stem in found), *(stem for stem in found if stem not in order)]
        parts.append({name: [f"{folder}/{stem}.md" for stem in pages]})
    return parts


def on_config(config):
    config["nav"] = navigation(Path(config["docs_dir"]))
    return config
