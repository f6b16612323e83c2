"""Write the generated parts of the handbook: `python src/handbook.py`, or `make docs`, which also builds the site.

The pages of the reference are made from the code: parameters, scripts, artifacts and what reruns what. The tables of
measured figures, in the handbook and in the README, are made from `benchmarks/results`. `--check` writes nothing, and
ends with exit status 1 if a page differs.
"""

import argparse
import importlib
from pathlib import Path

from ruamel.yaml import YAML

from thaw.core import params
from thaw.core.errors import ThawError, run
from thaw.core.files import atomic_file, read_utf8
from thaw.core.words import plural
from thaw.handbook import artifacts, drawing, measured, parameters, reruns, scripts
from thaw.parameters.whole import Params

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
MAKEFILE = Path("Makefile")
SCRIPTS = Path("src")
PACKAGES = Path("src/thaw")
DOCS = Path("docs")
README = Path("README.md")
RESULTS = Path("benchmarks/results")
DESCRIPTIONS = DOCS / "reference/artifacts.yaml"
NOTE = "<!-- Made by `make docs` from {}: edit that, not this page. -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write the generated parts of the handbook.", epilog="example: python src/handbook.py --check"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page differs from its source")
    check = parser.parse_args().check
    texts = pages()
    changed = [path for path, text in texts.items() if not path.exists() or read_utf8(path) != text]
    if check and changed:
        raise ThawError(f"not what the code says: {', '.join(map(str, changed))}; run `make docs`")
    for path in changed:
        with atomic_file(path) as temporary:
            temporary.write_text(texts[path], encoding="utf-8")
    written = f"{plural(len(changed), 'page')} written" if changed else "every page is what the code says"
    print(f"handbook: {written}")


def pages() -> dict[Path, str]:
    """Return every page that is generated, and every page with generated tables, as it should be."""
    texts = {DOCS / "reference" / name: text for name, text in reference().items()}
    texts[DOCS / "images/pipeline.svg"] = drawing.draw(read(PIPELINE)["stages"])
    for page in [README, *sorted(DOCS.rglob("*.md"))]:
        if page not in texts:
            texts[page] = measured.fill(read_utf8(page), RESULTS)
    return texts


def reference() -> dict[str, str]:
    """Return the pages of the reference by their names."""
    values, stages = read(PARAMS), read(PIPELINE)["stages"]
    names = [name for name, _ in params.flatten(values)]
    packages = sorted(path.as_posix() for path in PACKAGES.iterdir() if any(path.glob("*.py")))
    return {
        "parameters.md": titled(
            "Parameters", "`params.yaml`, its comments, and the models in `src/thaw/parameters/`",
            "All parameters are in `params.yaml`. Every stage checks the whole file before it works. The error for a "
            "wrong name or value is one line, with the nearest right name.",
            parameters.page(read_utf8(PARAMS), values, Params, section_texts(values)),
        ),
        "scripts.md": titled(
            "Commands", "the Makefile and the scripts in `src/`",
            "Each script prints its options with `--help`. Run it from the folder of the project, with `.venv` active "
            "(`source .venv/bin/activate`).",
            scripts.page(sorted(SCRIPTS.glob("*.py")), stages, read_utf8(MAKEFILE)),
        ),
        "artifacts.md": titled(
            "Artifacts", "`dvc.yaml` and `docs/reference/artifacts.yaml`",
            "What each stage writes, in the order of the pipeline. `dvc.lock` has the hashes of all of it. Metrics, "
            "plots, `provenance.json` and `each_time.yaml` are in Git; `dvc pull` brings the rest.",
            artifacts.page(stages, read(DESCRIPTIONS)),
        ),
        "reruns.md": titled(
            "What reruns", "`dvc.yaml`",
            "These are the stages that a change may run. A stage that writes the same bytes as before runs nothing "
            "behind it: a changed head reruns `extract_activations` only if it chooses another preset of augmentation. "
            "With files of your own, `fingerprints` runs in every `dvc repro`. For a value that was tried before, "
            "only `inputs`, `fingerprints` and `download` run again, where they depend on it. "
            "[How fast](../measured/speed.md#what-one-change-costs) has the seconds.",
            reruns.page(stages, names, packages),
        ),
    }  # fmt: skip


def titled(title: str, source: str, introduction: str, text: str) -> str:
    return f"# {title}\n\n{NOTE.format(source)}\n\n{introduction}\n\n{text}"


def section_texts(values: dict) -> dict[str, str]:
    """Return what each section of params.yaml is for, from the docstring of its module."""
    texts = {}
    for name in values:
        if (PACKAGES / "parameters" / f"{name}.py").exists():
            line = importlib.import_module(f"thaw.parameters.{name}").__doc__.splitlines()[0]
            text = line.partition(": ")[2]
            texts[name] = text[0].upper() + text[1:]
    return texts


def read(path: Path) -> dict:
    return YAML(typ="safe").load(read_utf8(path))


if __name__ == "__main__":
    run(main)
