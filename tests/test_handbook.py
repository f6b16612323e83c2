"""The handbook says what the code says, its tables what was measured, and its links lead somewhere."""

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pytest
import test_pipeline
import yaml
from dependencies import ROOT, SRC
from pydantic import BaseModel, Field

from thaw.core import tables
from thaw.core.errors import ThawError
from thaw.core.params import flatten
from thaw.handbook import artifacts, drawing, measured, parameters, reruns, scripts

DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
PAGES = [*(ROOT / name for name in FILES), *sorted(DOCS.rglob("*.md"))]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
VALUES = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
MKDOCS = Path(sys.prefix) / "docs" / "bin" / "python"  # as `make docs` calls it
INLINE_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def handbook(monkeypatch):
    monkeypatch.chdir(ROOT)
    return load(SRC / "handbook.py")


def test_every_generated_page_and_table_is_what_its_source_says(handbook):
    pages = handbook.pages()
    if VALUES["download"]["source"] != "elpv":  # the page shows the committed values, and params.yaml has others
        del pages[Path("docs/reference/parameters.md")]
    differing = [str(page) for page, text in pages.items() if not page.exists() or page.read_text("utf-8") != text]
    assert not differing, "run `make docs` and commit the pages"


# --- Links ---


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as MkDocs and GitHub make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@functools.cache
def ignored() -> set[Path]:
    """The files here that Git does not have: outputs of a run, which no other clone has."""
    names = git("ls-files", "-z", "--others", "--ignored", "--exclude-standard")
    return {ROOT / name for name in names.split("\0") if name}


def git(*arguments: str, stdin: str = "") -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page):
    assert not dead_links(page)


def dead_links(page: Path) -> list[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for link in INLINE_LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or target in ignored() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# A heading, with `code`\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md) [b](there.md#a-heading-with-code) [c](there.md#none) [d](gone.md)\n")
    assert dead_links(page) == ["there.md#none", "gone.md"]


def test_every_page_is_in_the_navigation_once():
    parts = load(DOCS / "hooks.py").navigation(DOCS)
    listed = [page for part in parts for value in part.values() for page in ([value] if value == "index.md" else value)]
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built once; a warning is an error."""
    folder = tmp_path_factory.mktemp("handbook") / "site"
    built = subprocess.run(
        [MKDOCS, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.skipif(not MKDOCS.exists(), reason="no MkDocs in .venv/docs: `make docs` or `make test` installs it")
def test_the_site_is_built_without_a_warning(site):
    assert (site / "index.html").exists()
    fetched = re.compile(r"<(script|link|img)[^>]+https?://")
    assert not [page for page in site.rglob("*.html") if fetched.search(page.read_text(encoding="utf-8"))]


# --- Measured ---


def test_the_tables_that_are_shown_have_a_file():
    shown = {name for page in PAGES for name in measured.names(page.read_text(encoding="utf-8"))}
    assert shown and shown <= {path.stem for path in RESULTS.glob("*.json")}
    dates = {path: measured.read(path)["date"] for path in RESULTS.glob("*.json")}
    assert not [path for path, date in dates.items() if not re.fullmatch(r"\d{4}-\d\d-\d\d", date)]


def test_what_is_measured_names_a_commit_of_this_repository():
    if "true" in git("rev-parse", "--is-shallow-repository"):
        pytest.skip("a shallow clone has no old commits")
    named = {measured.read(path)["commit"] for path in RESULTS.glob("*.json")}
    for page in PAGES:
        named |= {*re.findall(r"[Mm]easured\s+at\s+`(\w+)`", page.read_text(encoding="utf-8"))}
    assert len(named) > 5
    known = git("cat-file", "--batch-check=%(objecttype)", stdin="\n".join(sorted(named)))
    assert set(known.split()) == {"commit"}, known


SOURCE = re.compile(r"easured\s+at\s+`\w+`\s+on\s+\d{4}-\d\d-\d\d(?:,\s[^:`]+)?:\s+`[^`]+`")
FIGURE = re.compile(r"\d\s(?:s|ms|images/s|points|seconds|minutes)\b|\d\.\d\s%")
CELL = re.compile(r"\|\s*[-+<>]?\d[\d,]*(?:\.\d|\s(?:%|s|ms|MB)\b)")


def without_source(text: str) -> list[str]:
    """The lines with measured figures in sections where nothing says how they were measured."""
    lines = []
    for section in re.split(r"^(?=#+ )", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.MULTILINE):
        if not SOURCE.search(section):
            lines += [line for line in section.splitlines() if (CELL if line[:1] == "|" else FIGURE).search(line)]
    return lines


HAND_WRITTEN = [page for page in PAGES if page.is_relative_to(DOCS) and DOCS / "reference" not in page.parents]


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_a_measured_figure_stands_with_its_commit_its_date_and_its_command(page):
    """Those of the README are in tables, or in the committed metrics: see test_readme."""
    text = page.read_text(encoding="utf-8")
    assert not without_source(text)
    assert len(SOURCE.findall(text)) == len(re.findall(r"easured\s+at\s+`\w+`", text)), "without date or command"


def test_a_figure_typed_by_hand_is_found():
    mark = "*Measured at `abc1234` on 2026-11-29, 2 cores: `python benchmarks/x.py`.*\n"
    table, prose, limit = "| head | 85.0 % |\n", "It took 3.5 seconds.\n", "A file may have 100 MB.\n"
    assert without_source(f"# A\n{table}{prose}{limit}") == [table.strip(), prose.strip()]
    assert without_source(f"# A\n{table}{prose}\n{mark}") == []
    assert without_source(f"# A\n{mark}## B\n{prose}") == [prose.strip()]


RESULT = {
    "command": "python benchmarks/x.py", "commit": "abc1234", "date": "2026-11-29", "machine": "2 cores",
    "columns": [
        {"name": "what"}, {"name": "right", "format": "{:.1f} % ({:.1f}–{:.1f})"}, {"name": "s", "format": "{:.0e}"},
    ],
    "rows": [["head", [85, 80.04, 90], 4e-6], ["none", None, "0.6"]],
}  # fmt: skip


def test_a_table_is_made_from_its_file(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(RESULT))
    page = "before\n\n<!-- results: x -->\nedited by hand\n<!-- end -->\n\nafter\n"
    filled = measured.fill(page, tmp_path)
    assert "| head | 85.0\u00a0% (80.0–90.0) | 4e-6 |\n| none |  | 0.6 |" in filled
    assert "at `abc1234` on 2026-11-29, 2 cores: `python benchmarks/x.py`" in filled
    assert "edited by hand" not in filled
    assert measured.fill(filled, tmp_path) == filled
    assert filled.startswith("before\n") and filled.endswith("\nafter\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rows": [["head", 1]]}, "2 values"), ({"commit": None}, None), ({"delete": "commit"}, "commit is missing")],
)
def test_a_file_of_results_with_a_mistake_is_refused(tmp_path, change, message):
    results = RESULT | {key: value for key, value in change.items() if key != "delete"}
    results.pop(change.get("delete"), None)
    (tmp_path / "x.json").write_text(json.dumps(results))
    if message is None:
        assert measured.read(tmp_path / "x.json")
        return
    with pytest.raises(ThawError, match=message):
        measured.read(tmp_path / "x.json")


def test_a_table_without_its_file_is_refused(tmp_path):
    with pytest.raises(ThawError, match=r"gone\.json is missing"):
        measured.fill("<!-- results: gone -->\n<!-- end -->", tmp_path)


# --- The reference ---

COMMENTED = """
task: single            # single: one label · multi: several

section:
  first: 1              # between 0
                        # and 10
  kind: a               # which one: a: the first · b: the second, see `first`
  # For the rest.
  inner:
    names: [x]          # words; null: none
"""


class Inner(BaseModel):
    names: list[str] | None


class First(BaseModel):
    first: Annotated[int, Field(ge=0, le=10)]
    kind: Literal["a", "b"]
    inner: Inner


class Whole(BaseModel):
    task: Literal["single", "multi"]
    section: First


def test_a_parameter_has_its_comment_its_default_and_what_it_may_be():
    page = parameters.page(COMMENTED, yaml.safe_load(COMMENTED), Whole, {"section": "What it is for."})
    assert (
        page
        == """## task

- `single`: one label
- `multi`: several

Default: `single`. May be `single` or `multi`.

## section

What it is for.

### `section.first`

Between 0 and 10.

Default: `1`. May be a whole number from 0 to 10.

### `section.kind`

Which one:

- `a`: the first
- `b`: the second, see `first`

Default: `a`. May be `a` or `b`.

For the rest.

### `section.inner.names`

Words; null: none.

Default: `[x]`. May be a list of texts or `null`.
"""
    )


def test_a_parameter_without_a_comment_is_refused():
    bare = COMMENTED.replace("          # words; null: none", "")
    with pytest.raises(ThawError, match=r"says nothing of section\.inner\.names"):
        parameters.page(bare, yaml.safe_load(bare), Whole, {})


def test_each_parameter_has_a_heading_to_link_to():
    text = (DOCS / "reference/parameters.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `(.+)`$", text, re.MULTILINE) == [name for name, _ in flatten(VALUES) if "." in name]


def test_what_a_change_reruns_is_what_dvc_reruns():
    """RERUNS is what DVC does, see test_pipeline. A head may choose another preset, which the page counts."""
    for name, _ in flatten(VALUES):
        (running,) = [set(running) for _, running in reruns.by_parameter(STAGES, [name])]
        expected = test_pipeline.RERUNS[test_pipeline.row_of(name)]
        perhaps = {"fingerprints", "extract_activations"} if name.startswith("head.") else {"fingerprints"}
        assert expected <= running <= expected | perhaps, name


def test_the_rows_of_the_readme_are_those_of_the_reference():
    rows = re.findall(r"^\| .*`\w+\.[\w*]+` \| `.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    page = (DOCS / "reference/reruns.md").read_text(encoding="utf-8")
    assert len(rows) == 5
    assert not [row for row in rows if row not in page]


@pytest.mark.parametrize("page", ["README.md", "docs/understand/frozen-once.md"])
def test_every_package_of_the_library_is_on_the_map(page):
    packages = {path.parent.name for path in (SRC / "thaw").glob("*/*.py")}
    assert not {name for name in packages if f"`{name}`" not in (ROOT / page).read_text(encoding="utf-8")}


def test_each_output_is_described_once():
    files = {"a.csv": "a table", "plots/*.csv": "curves"}
    stages = {"one": {"outs": ["a.csv"], "plots": [{"plots/b.csv": {}}]}}
    artifacts.check(stages, files)
    with pytest.raises(ThawError, match=r"nothing says what these outputs of dvc\.yaml are: plots/b\.csv"):
        artifacts.check(stages, {"a.csv": "a table"})
    with pytest.raises(ThawError, match=r"described twice: a\.csv"):
        artifacts.check(stages, files | {"*.csv": "all"})
    with pytest.raises(ThawError, match=r"no output of dvc\.yaml: gone\.csv"):
        artifacts.check(stages, files | {"gone.csv": "nothing"})


def test_the_columns_and_keys_are_those_of_the_code_and_of_the_committed_run():
    described = yaml.safe_load((DOCS / "reference/artifacts.yaml").read_text(encoding="utf-8"))
    columns = {path: [part for name in names for part in artifacts.split_names(name)]
               for path, names in described["columns"].items()}  # fmt: skip
    assert [name for name in columns["data/raw/images.csv"] if name != "meta_…"] == [*tables.IMAGES]
    assert columns["data/raw/missing.csv"] == [*tables.MISSING]
    assert columns["data/features/rows.csv"] == [*tables.ROWS]
    assert columns["data/split.csv"][: len(tables.SPLIT)] == [*tables.SPLIT]
    metrics = json.loads((ROOT / "reports/metrics.json").read_text())
    assert metrics.keys() <= described["keys"]["reports/metrics.json"].keys()


def test_the_drawing_shows_what_reads_what():
    written = {path: name for name, stage in STAGES.items() for path in reruns.outputs(stage)}
    reads = {(written.get(dep), name) for name, stage in STAGES.items() for dep in reruns.paths(stage, ["deps"])}
    assert set(drawing.ARROWS) <= reads
    drawn = drawing.draw(STAGES)
    assert all(f">{stage}</text>" in drawn for stage in STAGES if stage not in drawing.LOOKS)
    with pytest.raises(ThawError, match="no place for label"):
        drawing.draw(STAGES | {"label": {}})


def test_a_script_is_described_from_its_parser(tmp_path):
    (tmp_path / "tool.py").write_text(
        '"""Do a thing."""\nimport argparse\nparser = argparse.ArgumentParser(epilog="example: python tool.py x")\n'
        'commands = parser.add_subparsers()\nnext_one = commands.add_parser("next", help="the next")\n'
        'next_one.add_argument("folders", nargs="+", help="where")\n'
        'next_one.add_argument("--count", type=int, default=5, metavar="N", help="how many (default: %(default)s)")\n'
        "parser.parse_args()\n"
    )
    lines = scripts.describe(tmp_path / "tool.py")
    assert f"python {tmp_path}/tool.py next FOLDERS … [--count N]" in lines
    assert "| `--count N` | how many (default: 5) |" in lines
    assert lines[-3] == "example: python tool.py x"
    (tmp_path / "stage.py").write_text('"""Do another thing."""\n')
    assert scripts.describe(tmp_path / "stage.py")[2] == "Do another thing."


# --- The habits of a project ---


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    releases = re.findall(r"^## \[(\d[\d.]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert releases[0] == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version


def test_the_changelog_has_the_parts_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\w+)", text, re.MULTILINE)[0] == "Unreleased"
    parts = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {*re.findall(r"^### (.+)$", text, re.MULTILINE)} <= parts
    assert "**What stays**" in text


def test_issue_forms_ask_for_what_the_doctor_says():
    forms = [*(ROOT / ".github/ISSUE_TEMPLATE").glob("*.yaml")]
    assert len(forms) == 2
    for form in forms:
        fields = {field["id"]: field for field in yaml.safe_load(form.read_text(encoding="utf-8"))["body"]}
        assert "make doctor" in fields["doctor"]["attributes"]["label"]


# --- The site in a browser ---

HARNESS = """<!doctype html><meta charset="utf-8"><body><script>
const pages = %s, width = 390, seen = [];
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
async function open(url) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 800; frame.src = url;
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; });
  return frame;
}
(async () => {
  for (const page of pages) {
    const frame = await open(page), inside = frame.contentWindow, root = frame.contentDocument.documentElement;
    const fetched = inside.performance.getEntriesByType("resource").map(entry => entry.name);
    const broken = [...frame.contentDocument.images].filter(image => !image.naturalWidth).map(image => image.src);
    seen.push({ page, scroll: root.scrollWidth, fetched: fetched.filter(name => !name.startsWith("file:")), broken });
    frame.remove();
  }
  const frame = await open(pages[0] + "?q=freeze_depth");
  let found = [];
  for (let i = 0; i < 40 && !found.length; i++) {
    await wait(250);
    found = [...frame.contentDocument.querySelectorAll(".md-search-result__item a")].map(link => link.href);
  }
  document.body.textContent = JSON.stringify({ seen, found });
})();
</script></body>"""


@pytest.mark.skipif(not MKDOCS.exists(), reason="no MkDocs in .venv/docs: `make docs` or `make test` installs it")
@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium is installed")
def test_in_a_browser_the_site_fetches_nothing_fits_a_phone_and_can_be_searched(site, tmp_path):
    pages = [f"file://{path}" for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    pages.sort(key=lambda page: not page.endswith("site/index.html"))
    (tmp_path / "harness.html").write_text(HARNESS % json.dumps(pages), encoding="utf-8")
    browser = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom",
         "--enable-logging=stderr", "--virtual-time-budget=60000", f"--user-data-dir={tmp_path / 'profile'}",
         f"file://{tmp_path / 'harness.html'}"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    body = re.search(r"<body>(\{.*\})</body>", browser.stdout, re.DOTALL)
    assert body, browser.stdout[-500:] + browser.stderr[-500:]
    result = json.loads(body[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert len(result["seen"]) == len(pages) > 25
    for page in result["seen"]:
        assert page["fetched"] == [] and page["broken"] == [], page
        assert page["scroll"] <= 390, page
    found = [link.partition("?")[0] for link in result["found"]]
    assert any(link.endswith("reference/parameters.html") for link in found), found
    assert not [line for line in browser.stderr.splitlines() if "CONSOLE" in line]
