"""The report: one HTML file that needs no network and no JavaScript, for the screen, the phone and paper."""

from collections.abc import Mapping

from markupsafe import Markup

from thaw.report import data, elements, quality, sets, sheets, trust
from thaw.report.results import Results, RunFacts
from thaw.report.style import STYLE

# Forbids scripts and every load: even unescaped text could do no harm.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

SECTIONS = {  # id → title, function that writes it
    "metrics": ("Metrics", quality.write_metrics),
    "classes": ("Classes", quality.write_classes),
    "curves": ("Curves", quality.write_curves),
    "comparisons": ("Comparisons", trust.write_comparisons),
    "calibration": ("Calibration", trust.write_calibration),
    "sets": ("Sets", sets.write_sets),
    "slices": ("Slices", trust.write_slices),
    "photographs": ("Photographs", sheets.write_sheets),
    "data": ("Data", data.write_data),
    "provenance": ("Provenance", data.write_provenance),
}
PAGE = Markup("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{plain_title} · Thaw</title>
<style>{style}</style>
</head>
<body>
<header id="summary">
<p class="eyebrow">Thaw · {source} · {photographs:,} photographs</p>
<h1>{title}</h1>
{summary}
</header>
<nav aria-label="Contents"><ol><li><a href="#summary">Summary</a></li>{contents}</ol></nav>
<main>
{sections}
</main>
</body>
</html>
""")


def render(results: Results) -> str:
    """Return the report as HTML. The same results give the same string; every text in them is escaped."""
    sections = {key: (name, write(results)) for key, (name, write) in SECTIONS.items()}
    return fill(results, quality.title(results), quality.write_summary(results), sections)


def fill(results: RunFacts, title: Markup, summary: Markup, sections: Mapping[str, tuple[str, Markup]]) -> str:
    """Return a page as HTML.

    Args:
        results: of a run.
        title: the heading.
        summary: what stands below it.
        sections: id → title and content of each section, in their order.
    """
    link = Markup('<li><a href="#{}">{}</a></li>')
    section = Markup('<section id="{}">\n<h2>{}</h2>\n{}\n</section>')
    page = PAGE.format(
        policy=Markup(POLICY),
        title=title,
        plain_title=title.striptags(),
        style=Markup(STYLE),
        source=elements.isolated(results.source["name"]),
        photographs=sum(map(sum, results.health.counts.values())),
        summary=summary,
        contents=Markup().join(link.format(key, name) for key, (name, _) in sections.items()),
        sections=Markup("\n").join(section.format(key, name, content) for key, (name, content) in sections.items()),
    )
    return str(page)
