"""The saved views of a run's FiftyOne dataset: each split, its mistakes, likely wrong labels and near-duplicates."""

from thaw.core import tables
from thaw.core.metrics_file import MODELS
from thaw.exploration.analysis import MAX_DUPLICATE_DISTANCE
from thaw.exploration.samples import NEAR_DUPLICATES

SUSPICIOUS_FRACTION = 0.05  # of all photographs, in the view of likely wrong labels
MARK = "Written by Thaw, and anew at each run."  # ends the description of a view; by it Thaw knows its own views


def save(dataset, several: bool = False) -> list[str]:
    """Save the views; return the names of those that are not saved because a view of the user has the name.

    several: the photographs have several labels: there are no views of mistakes.
    """
    from fiftyone.core.utils import to_slug  # two names with one slug are the same name to FiftyOne

    infos = map(dataset.get_saved_view_info, dataset.list_saved_views())
    users = {to_slug(info["name"]) for info in infos if not (info["description"] or "").endswith(MARK)}
    views = _views(dataset, several)
    for name, (view, description) in views.items():
        if to_slug(name) not in users:
            dataset.save_view(name, view, description=f"{description} {MARK}", overwrite=True)
    return [name for name in views if to_slug(name) in users]


def _views(dataset, several: bool) -> dict:
    """Return {name: (view, description)}."""
    from fiftyone import ViewField

    samples = dataset.exists("image_id")
    label = ViewField("ground_truth.label")
    views = {}
    for split in tables.SPLITS:
        members = samples.match(ViewField("split") == split)
        views[split] = members, f"The photographs of {split}."
        if several:
            continue
        for model, model_name in MODELS.items():
            wrong = members.match(ViewField(f"{model}.label") != label).sort_by(f"{model}.confidence", reverse=True)
            views[f"{split}: mistakes of the {model_name}"] = wrong, "The surest first."
        disagree = members.match(ViewField("head.label") != ViewField("fine_tuned.label"))
        views[f"{split}: the models disagree"] = disagree, "Head and fine-tuned model predict different classes."
    by_confidence = samples.exists("self_confidence").sort_by("self_confidence")
    views["suspicious labels"] = (
        by_confidence.limit(max(1, round(SUSPICIOUS_FRACTION * len(samples)))),
        f"The {SUSPICIOUS_FRACTION:.0%} of all labels that a head which never saw them doubts most.",
    )
    views["near-duplicates"] = (
        samples.exists(NEAR_DUPLICATES).sort_by(NEAR_DUPLICATES),
        f"Photographs within a cosine distance of {MAX_DUPLICATE_DISTANCE} to the backbone, side by side.",
    )
    return views
