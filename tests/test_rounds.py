"""Folds: which images train, validate and test in each round, and what is concluded from all predictions."""

import dataclasses

import numpy as np
import pytest

from thaw.evaluation import measure, models
from thaw.evaluation.predictions import Predictions
from thaw.features.examples import Examples
from thaw.heads import selection
from thaw.heads.linear import LinearHead
from thaw.heads.protocol import Setting, Trained
from thaw.training import out_of_fold
from thaw.training.temperature import apply_temperature, fit_temperature


def images_of(folds: list, labels: list | None = None, groups: list | None = None) -> Examples:
    count = len(folds)
    ids = np.array([f"i{i:03}" for i in range(count)])
    return Examples(
        ids,
        np.full(count, "train"),
        np.arange(count)[:, None],
        np.array(labels if labels is not None else np.arange(count) % 2),
        np.ones(count),
        np.array(groups) if groups is not None else ids,
        np.array(folds).reshape(count, -1),
    )


def test_each_image_is_tested_once_and_validates_once_by_a_round_that_was_not_trained_on_it():
    images = images_of([0, 1, 2, 3, 0, 1, 2, 3, 2])
    parts = images.rounds()
    assert len(parts) == 4
    for split in ("test", "validation"):
        assert sorted(np.concatenate([part.positions(split) for part in parts])) == list(range(9))
    for part in parts:
        assert not set(part.positions("train")) & {*part.positions("test"), *part.positions("validation")}
        assert len(part.positions("train")) + len(part.positions("test")) + len(part.positions("validation")) == 9
    asked, answering = images.asked()
    assert asked.splits.tolist() == ["test"] * 9 + ["validation"] * 9
    for image_id, split, number in zip(asked.image_ids, asked.splits, answering, strict=True):
        part = parts[number]
        assert part.splits[part.image_ids.tolist().index(image_id)] == split


def test_repeats_are_further_rounds_and_take_keeps_the_folds_of_its_images():
    images = images_of([[0, 2], [1, 1], [2, 0], [0, 1]])
    assert [part.positions("test").tolist() for part in images.all_rounds()] == [[0, 3], [1], [2], [2], [1, 3], [0]]
    assert images.take(np.array([3, 0])).folds.tolist() == [[0, 1], [0, 2]]
    asked, answering = images.asked(repeat=1)
    assert answering.tolist() == [2, 1, 0, 1, *[1, 0, 2, 0]]
    assert asked.image_ids.tolist() == [*images.image_ids, *images.image_ids]


def test_models_of_further_repeats_are_asked_about_what_they_test_alone():
    """Nothing is chosen with them: their predictions for validation would be thrown away."""
    images = images_of([[0, 2], [1, 1], [2, 0], [0, 1]])
    features = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    heads = [LinearHead(np.eye(3, 2, -i, np.float32), np.zeros(2, np.float32), ("a", "b"), C=1.0) for i in range(6)]
    rounds = [models.Trained(head, None, lambda rows, inputs, h=head: h.probabilities(inputs[rows])) for head in heads]
    unused = dict.fromkeys(field.name for field in dataclasses.fields(models.TrainedModels))
    run = models.TrainedModels(
        **unused
        | {"head": heads[0], "examples": images, "rounds": rounds, "activation_rows": np.arange(4)}
        | {"inputs": (models.Inputs(features, features),), "decided": {"kept": "head"}}
    )
    assert len(run.output_probabilities()["head"]) == 8  # as those of test, then as those of validation
    expected = [heads[3 + fold].probabilities(features[[i]])[0] for i, fold in enumerate((2, 1, 0, 1))]
    for answers in run.output_probabilities(repeat=1).values():
        np.testing.assert_allclose(answers, expected, rtol=1e-6)


def test_without_folds_there_is_one_round_with_the_splits_as_they_are():
    images = Examples(*(getattr(images_of([0, 1]), name) for name in ("image_ids", "splits", "views", "labels")),
                      np.ones(2), np.array(["a", "b"]))  # fmt: skip
    assert images.rounds() == images.all_rounds() == [images]
    asked, answering = images.asked()
    assert asked is images and answering.tolist() == [0, 0]


def trained(variant: str, candidate: str, value: float, loss: float) -> Trained:
    return Trained(None, variant, Setting(candidate, (value,)), np.array([loss]), loss, {"validation_loss": loss}, "")


def test_the_rounds_agree_on_the_lowest_mean_loss_and_on_the_median_of_its_values():
    rounds = [
        [trained("plain", "a", 1, 0.5), trained("plain", "a", 2, 0.4), trained("augmented", "a", 3, 0.1)],
        [trained("plain", "a", 1, 0.3), trained("plain", "a", 9, 0.2), trained("augmented", "a", 3, 0.9)],
        [trained("plain", "a", 4, 0.3), trained("augmented", "a", 5, 0.3)],
        [
            trained("plain", "a", 3, 0.3),
            trained("augmented", "a", 5, 0.3),
            trained("plain", "not in all rounds", 1, 0.0),
        ],
    ]
    assert selection.agreed(rounds) == ("plain", Setting("a", (3,)))  # of 2, 9, 4 and 3 the lower of the middle two
    assert selection.best_scores(rounds)["augmented"]["validation_loss"] == pytest.approx(0.4)


def test_the_answers_for_test_are_calibrated_on_the_validation_of_their_own_round():
    generator = np.random.default_rng(2)
    images = images_of(np.arange(300) % 3)
    odds = np.exp(4 * generator.normal(size=(300, 2)) + 3 * np.eye(2)[images.labels])
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    part = images.rounds()[1]
    validation = part.split("validation")
    temperature = fit_temperature(probabilities[validation.rows], validation.labels, validation.weights)
    assert temperature > 1.5
    answers = out_of_fold.calibrated(part, lambda rows: probabilities[rows])
    np.testing.assert_array_equal(answers, apply_temperature(probabilities[part.split("test").rows], temperature))


@pytest.mark.parametrize(("change", "helped"), [(0.3, True), (0.0, False), (-0.3, False)])
def test_fine_tuning_helped_only_if_the_loss_fell_beyond_noise(change, helped):
    generator = np.random.default_rng(3)
    images = images_of(np.arange(200) % 4)
    own = 0.7 + 0.1 * generator.normal(size=200).clip(-1, 1)

    def answers(likelihood: np.ndarray) -> np.ndarray:
        return np.where(np.eye(2)[images.labels] == 1, likelihood[:, None], 1 - likelihood[:, None])

    noise = 0.05 * generator.normal(size=200).clip(-2, 2)
    verdict = out_of_fold.judge(answers((own + 0.3 * change + noise).clip(0.01, 0.99)), answers(own), images)
    assert verdict.helped is helped


def test_a_lower_loss_with_a_lower_accuracy_is_no_help():
    images = images_of(np.arange(100) % 4, labels=[0] * 100)
    head = np.tile([0.55, 0.45], (100, 1))
    surer = np.tile([0.95, 0.05], (100, 1))
    surer[:3] = [0.45, 0.55]
    verdict = out_of_fold.judge(surer, head, images)
    assert verdict.change.loss < -2 * verdict.change.standard_error and not verdict.helped
    assert "97.0% right against 100.0% by the head" in verdict.text


def test_a_threshold_is_measured_where_it_was_not_chosen():
    """Each round answers in a scale of its own: one threshold for all of them would find nothing right."""
    images = images_of(np.arange(80) % 4, labels=np.arange(80) // 4 % 2)
    asked, answering = images.asked()
    border = np.array([0.1, 0.3, 0.6, 0.8])[answering]
    positive = np.where(asked.labels == 1, border + 0.05, border - 0.05)
    probabilities = {"head": np.stack([1 - positive, positive], axis=1)}
    predictions = Predictions(asked, ("a", "b"), probabilities, np.ones(160), answering)
    thresholds = measure.choose_thresholds(predictions, predictions.once(), "best_f1")["head"]
    assert thresholds["test"].f1 == 1  # by the thresholds of the rounds
    assert thresholds["validation"].f1 < 1  # the one for those who use the model, on all predictions
    assert thresholds["test"].value == thresholds["validation"].value


def test_a_training_that_has_ended_stays_at_the_epoch_that_it_keeps():
    """Else the epochs of the last trainings alone would decide what a search takes for the loss of all."""
    from thaw.training.fine_tuning import History, mean_course

    ended = History([{"loss": 0.8}, {"loss": 0.9, "train": 1.0}], best_epoch=0)
    long = History([{"loss": 0.6}, {"loss": 0.4, "train": 2.0}, {"loss": 0.2, "train": 3.0}], best_epoch=2)
    course = list(mean_course([ended, long]))
    assert [scores["loss"] for scores in course] == pytest.approx([0.7, 0.65, 0.5])
    assert course[1]["train"] == 1.5 and "train" not in course[2]


def test_scores_that_not_all_rounds_have_are_no_means():
    rounds = [[trained("plain", "a", epoch, 0.1 * epoch + 0.1)] for epoch in (0, 1)]
    rounds[1][0].scores["train_loss"] = 0.5  # the start of a training has none
    for each in (rounds, rounds[::-1]):
        assert selection.best_scores(each) == {"plain": {"validation_loss": pytest.approx(0.15)}}


@pytest.mark.parametrize(("errors", "helped"), [(1.9, False), (2.1, True)])
def test_the_loss_has_to_fall_by_more_than_two_standard_errors(errors, helped):
    images = images_of(np.arange(100) % 4, labels=[0] * 100)
    noise = np.tile([-0.1, 0.1], 50)  # the standard error of its mean is 0.1 / √99
    own = np.exp(-0.5 + noise + errors * 0.1 / np.sqrt(99))
    head = np.tile([np.exp(-0.5), 1 - np.exp(-0.5)], (100, 1))
    verdict = out_of_fold.judge(np.stack([own, 1 - own], axis=1), head, images)
    assert verdict.change.loss == pytest.approx(-errors * verdict.change.standard_error)
    assert verdict.helped is helped


def test_the_temperature_of_a_round_is_chosen_by_the_weights_of_validation():
    images = images_of(np.arange(60) % 3, labels=[0] * 60)
    probabilities = np.tile([0.9, 0.1], (60, 1))
    probabilities[:30] = [0.2, 0.8]
    weights = np.where(np.arange(60) < 30, 0.1, 1.0)
    (part, *_) = dataclasses.replace(images, weights=weights).rounds()
    validation, test = part.split("validation"), part.split("test")
    temperature = fit_temperature(probabilities[validation.rows], validation.labels, validation.weights)
    expected = apply_temperature(probabilities[test.rows], temperature)
    np.testing.assert_array_equal(out_of_fold.calibrated(part, lambda rows: probabilities[rows]), expected)
