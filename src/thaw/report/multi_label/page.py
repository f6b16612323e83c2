"""The report of a run of several labels: one HTML file, with the look and the rules of that of single labels."""

from thaw.report import page
from thaw.report.multi_label import data, quality, sheets, trust
from thaw.report.multi_label.results import MultiResults

SECTIONS = {  # id → title, function that writes it
    "metrics": ("Metrics", quality.write_metrics),
    "classes": ("Classes", quality.write_classes),
    "curves": ("Curves", quality.write_curves),
    "comparisons": ("Comparisons", trust.write_comparisons),
    "calibration": ("Calibration and thresholds", trust.write_calibration),
    "slices": ("Slices", trust.write_slices),
    "photographs": ("Photographs", sheets.write_sheets),
    "data": ("Data", data.write_data),
    "provenance": ("Provenance", data.write_provenance),
}


def render(results: MultiResults) -> str:
    """Return the report as HTML. The same results give the same string; every text in them is escaped."""
    sections = {key: (name, write(results)) for key, (name, write) in SECTIONS.items()}
    return page.fill(results, quality.title(results), quality.write_summary(results), sections)
