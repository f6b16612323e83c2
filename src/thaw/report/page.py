"""The report: one HTML file that needs no network and no JavaScript, for the screen, the phone and paper."""

from html import escape

from thaw.report import data, quality, sheets, trust
from thaw.report.results import Results
from thaw.report.style import STYLE

# Forbids scripts and every load: what an author forgets to escape can do no harm.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

SECTIONS = {  # id → title, what is written there
    "metrics": ("Metrics", quality.metrics),
    "classes": ("Classes", quality.classes),
    "curves": ("Curves", quality.curves),
    "comparisons": ("Comparisons", trust.comparisons),
    "calibration": ("Calibration", trust.calibration),
    "slices": ("Slices", trust.slices),
    "photographs": ("Photographs", sheets.sheets),
    "data": ("Data", data.data),
    "provenance": ("Provenance", data.provenance),
}


def render(results: Results) -> str:
    """Return the report as HTML. The same results give the same string; every text in them is escaped."""
    contents = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, (name, _) in SECTIONS.items())
    body = "\n".join(
        f'<section id="{key}">\n<h2>{name}</h2>\n{write(results)}\n</section>'
        for key, (name, write) in SECTIONS.items()
    )
    photographs = sum(map(sum, results.health.counts.values()))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{quality.title(results)} · Thaw</title>
<style>{STYLE}</style>
</head>
<body>
<header id="summary">
<p class="eyebrow">Thaw · {escape(results.source["name"])} · {photographs:,} photographs</p>
<h1>{quality.title(results)}</h1>
{quality.summary(results)}
</header>
<nav aria-label="Contents"><ol><li><a href="#summary">Summary</a></li>{contents}</ol></nav>
<main>
{body}
</main>
</body>
</html>
"""
