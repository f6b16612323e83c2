"""What FiftyOne computes from a run: near-duplicates and similarity of features, evaluations, mistakenness."""

from thaw.core.metrics_file import MODELS
from thaw.core.tables import EVALUATED
from thaw.exploration.finished_run import Run
from thaw.exploration.samples import FEATURES, NEAR_DUPLICATES, set_state, state

SIMILARITY = "features_similarity"
VISUALIZATION = "features_pca"
UNIQUENESS = "uniqueness"
# Cosine distance of centred features. Of 2,624 solar cells, which all look alike, 119 have a neighbour this near.
MAX_DUPLICATE_DISTANCE = 0.02
# With fewer samples than this FiftyOne computes all distances at once: 25 million numbers, twice. Its own limit of
# 15,000 samples takes 4 GB. Above the limit it searches for neighbours in blocks.
MAX_ALL_DISTANCES = 5_000


def analyse_features(dataset, run: Run, progress: bool = False) -> None:
    """Let FiftyOne Brain compute a map, a similarity index, the uniqueness and near-duplicates of the features.

    Does nothing if they have been computed from the same features before.
    """
    import fiftyone.brain as brain
    import fiftyone.brain.internal.core.sklearn as neighbours

    keys = (SIMILARITY, VISUALIZATION, UNIQUENESS)
    if state(dataset).get("features") == run.features_hash and all(map(dataset.has_brain_run, keys)):
        return
    set_state(dataset, features=None)  # if this is interrupted, the next call computes all of it again
    neighbours._MAX_PRECOMPUTE_DISTS = MAX_ALL_DISTANCES
    samples = dataset.exists("image_id")
    for key in keys:
        if dataset.has_brain_run(key):
            dataset.delete_brain_run(key)
    index = brain.compute_similarity(samples, embeddings=FEATURES, brain_key=SIMILARITY, backend="sklearn")
    brain.compute_visualization(samples, similarity_index=index, method="pca", brain_key=VISUALIZATION, seed=1)
    brain.compute_uniqueness(samples, uniqueness_field=UNIQUENESS, similarity_index=index, progress=progress)
    brain.compute_near_duplicates(samples, threshold=MAX_DUPLICATE_DISTANCE, similarity_index=index, progress=progress)
    image_ids = dict(zip(*samples.values(["id", "image_id"]), strict=True))
    duplicate_of = dict.fromkeys(image_ids)
    for kept, duplicates in index.neighbors_map.items():
        duplicate_of |= dict.fromkeys([kept, *(sample for sample, _ in duplicates)], image_ids[kept])
    dataset.set_values(NEAR_DUPLICATES, duplicate_of, key_field="id")
    set_state(dataset, features=run.features_hash)


def evaluate(dataset, run: Run, progress: bool = False) -> dict[str, dict[str, float]]:
    """Let FiftyOne evaluate both models and compute their mistakenness; return {model: {split: accuracy}}.

    Of photographs with several labels it can do neither: the result is empty then.

    The evaluations are called `head_validation`, `head_test`, `fine_tuned_validation` and `fine_tuned_test`. They are
    computed again only if the predictions have changed. A split without images has none, as validation with folds.
    """
    import fiftyone.brain as brain
    from fiftyone import ViewField

    if run.values is not None:
        return {}
    samples = dataset.exists("image_id")
    used = [split for split in EVALUATED if split in set(run.table["split"])]
    keys = {f"{model}_{split}": (model, split) for model in MODELS for split in used}
    if state(dataset).get("evaluated") != run.predictions_hash or not all(map(dataset.has_evaluation, keys)):
        set_state(dataset, evaluated=None)
        of_other_splits = {f"{model}_{split}" for model in MODELS for split in EVALUATED} - keys.keys()
        for key in of_other_splits & {*dataset.list_evaluations()}:  # of an earlier run, without folds
            dataset.delete_evaluation(key)
        for model in MODELS:
            field = f"{model}_mistakenness"
            brain.compute_mistakenness(
                samples, model, label_field="ground_truth", mistakenness_field=field, progress=progress
            )
        for key, (model, split) in keys.items():
            samples.match(ViewField("split") == split).evaluate_classifications(
                model, gt_field="ground_truth", eval_key=key, classes=list(run.classes), progress=progress
            )
        set_state(dataset, evaluated=run.predictions_hash)
    accuracies = {model: {} for model in MODELS}
    for key, (model, split) in keys.items():
        accuracies[model][split] = float(dataset.load_evaluation_results(key).metrics()["accuracy"])
    return accuracies
