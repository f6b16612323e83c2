"""A kind of head is one module and its registration: training, saving, loading and attaching ask the registry alone."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from dependencies import SRC

from thaw.core.errors import ThawError
from thaw.features.examples import Examples, losses, weighted_scores
from thaw.features.paired import paired_change
from thaw.heads import registry, selection
from thaw.heads.linear import LinearHead
from thaw.heads.protocol import Head, HeadData, Setting, Trained


@dataclass(frozen=True)
class FrequencyHead(Head):
    """Predicts the frequency of each class in training, whatever the features."""

    frequencies: np.ndarray
    classes: tuple[str, ...]

    @property
    def description(self) -> dict[str, object]:
        return {"kind": "frequency"}

    def output_probabilities(self, features: np.ndarray) -> np.ndarray:
        return np.tile(self.frequencies, (len(features), 1))

    def attach(self, backbone, features: str):
        kernel = np.zeros((backbone.get_layer(features).output.shape[-1], len(self.classes)), np.float32)
        return LinearHead(kernel, np.log(self.frequencies), self.classes, 0.0).attach(backbone, features)

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        description = {"kind": "frequency", "classes": self.classes, "frequencies": self.frequencies.tolist()}
        (folder / "head.json").write_text(json.dumps(description))


def load(folder: Path) -> FrequencyHead:
    description = json.loads((folder / "head.json").read_text())
    return FrequencyHead(np.array(description["frequencies"]), tuple(description["classes"]))


def train(params, data, log) -> list[Trained]:
    trained = []
    for variant, images in data.training.items():
        head = FrequencyHead(np.bincount(images.labels) / len(images), data.classes)
        p = head.probabilities(data.features[data.validation.rows])
        loss, accuracy = weighted_scores(p, data.validation)
        scores = {"validation_loss": loss, "validation_accuracy_weighted": accuracy}
        log(variant, 0, scores)
        trained.append(
            Trained(
                head,
                variant,
                Setting("frequency", ()),
                losses(p, data.validation),
                loss,
                scores,
                "the frequency of each class",
            )
        )
    return trained


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(registry.KINDS, "frequency", __name__)


@pytest.fixture
def data() -> HeadData:
    ids = np.array(list("abcdefgh"))
    images = Examples(ids, np.array(["train"] * 4 + ["validation"] * 4), np.arange(8)[:, None],
                      np.array([0, 1, 1, 1, 0, 1, 1, 1]), np.ones(8), ids)  # fmt: skip
    training = dict.fromkeys(("plain", "augmented"), images.split("train"))
    validation = images.split("validation")
    return HeadData(np.zeros((8, 5), np.float16), training, validation, ("rare", "common"), Path("models/backbone"))


def test_a_head_of_its_own_is_trained_saved_loaded_and_attached(registered, data, tmp_path):
    from thaw.engines.keras_setup import keras

    params = SimpleNamespace(kind="frequency", extend=None)
    logged = []
    trained = registry.train(params, data, lambda *given: logged.append(given))
    assert [variant for variant, *_ in logged] == ["plain", "augmented"]
    head = selection.best(selection.fit_to_start(trained)).head
    head.save(tmp_path / "head")
    loaded = registry.load(tmp_path / "head")
    expected = np.tile([0.25, 0.75], (3, 1))
    np.testing.assert_array_equal(loaded.probabilities(np.zeros((3, 5))), expected)
    image = keras.Input((None, None, 5), name="image")
    backbone = keras.Model(image, keras.layers.GlobalAveragePooling2D(name="features")(image))
    model = loaded.attach(backbone, "features")
    np.testing.assert_allclose(model(np.ones((3, 2, 2, 5), np.float32)), expected, rtol=1e-6)


def test_a_registered_kind_is_one_that_the_parameters_may_name():
    """In a process of its own: the section `head` reads the registry when it is imported."""
    code = (
        "from thaw.heads import registry; registry.KINDS['frequency'] = None; from thaw.parameters.head import Head; "
        "print(Head.model_fields['kind'].annotation.__args__)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=SRC, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "('linear', 'network', 'frequency')"


def test_a_head_that_extends_nothing_has_its_classes_as_outputs(data):
    head = FrequencyHead(np.array([0.25, 0.75]), data.classes)
    p = head.output_probabilities(data.features)
    assert head.outputs == head.classes
    assert head.label_probabilities(p) is p
    assert head.outputs_for_labels(np.array([1, 0]), p).tolist() == [1, 0]
    assert not head.extends
    with pytest.raises(NotImplementedError):
        head.before(data.features)


def test_a_model_is_extended_whatever_the_kind(monkeypatch, data):
    monkeypatch.setitem(sys.modules, "tests.extended", SimpleNamespace(train=lambda *given: given))
    monkeypatch.setitem(registry.KINDS, registry.EXTENDED, "tests.extended")
    params = SimpleNamespace(kind="linear", extend=True)
    assert registry.train(params, data, print) == (params, data, print)


def test_a_folder_without_a_head_is_one_line(tmp_path):
    with pytest.raises(ThawError, match=r"head\.json is missing: run `dvc repro`"):
        registry.load(tmp_path)


def test_a_kind_that_is_not_registered_is_one_line(tmp_path):
    (tmp_path / "head.json").write_text('{"kind": "forest"}')
    with pytest.raises(ThawError, match=r"head\.json: there is no kind of head 'forest', only linear, network, ext"):
        registry.load(tmp_path)


def test_a_kind_without_a_form_for_several_labels_is_one_line(registered, data):
    several = replace(data, validation=replace(data.validation, values=np.zeros((4, 2), np.int8)))
    with pytest.raises(ThawError, match=r"head\.kind: frequency has no form for several labels \(frequency_multi\)"):
        registry.train(SimpleNamespace(kind="frequency", extend=None), several, print)


# Which head is kept


@pytest.fixture
def trained(data):
    head = FrequencyHead(np.array([0.5, 0.5]), data.classes)
    scores = (("plain", 0.2), ("plain", 0.1), ("augmented", 0.4), ("augmented", 0.3))
    return [
        Trained(head, variant, Setting("frequency", (loss,)), np.full(4, loss), loss, {"validation_loss": loss}, "")
        for variant, loss in scores
    ]


def test_the_lowest_loss_is_kept_and_of_equal_ones_the_first(trained):
    assert selection.best(trained) is trained[1]
    assert selection.best([trained[1], replace(trained[1])]) is trained[1]


def test_fine_tuning_starts_with_the_best_head_of_augmented_images_if_there_is_one(trained):
    assert selection.best(selection.fit_to_start(trained)) is trained[3]
    assert selection.best(selection.fit_to_start(trained[:2])) is trained[1]


def test_a_head_that_extends_a_model_is_final(trained):
    extending = SimpleNamespace(extends=True)
    assert selection.best(selection.fit_to_start([replace(t, head=extending) for t in trained])).loss == 0.1


def test_each_variant_has_the_scores_of_its_best_head(trained):
    assert selection.best_scores([trained]) == {
        "plain": {"validation_loss": 0.1},
        "augmented": {"validation_loss": 0.3},
    }


# Which preset of augmentation suits the data


def head_of(data, variant: str, losses: list[float]) -> Trained:
    head = FrequencyHead(np.array([0.5, 0.5]), data.classes)
    return Trained(head, variant, Setting("frequency", ()), np.array(losses), float(np.mean(losses)), {}, "")


@pytest.mark.parametrize(
    ("losses", "preset"),
    [
        ([0.4, 0.5, 0.6, 0.7], "upright"),  # worse
        ([0.0, 0.6, 0.1, 0.6], "upright"),  # lower by 0.025, with a standard error of 0.16
        ([0.2, 0.2, 0.3, 0.4], "any_way_up"),  # lower by 0.075, with a standard error of 0.025
    ],
)
def test_the_stronger_preset_has_to_gain_more_than_one_standard_error(data, losses, preset):
    heads = [head_of(data, "upright", [0.3, 0.3, 0.4, 0.4]), head_of(data, "any_way_up", losses)]
    choice = selection.choose_preset([heads], ["upright", "any_way_up"], data.validation)
    assert choice.preset == preset
    assert choice.text.startswith(f"; augmentation {preset} is chosen (any_way_up against upright: validation loss ")
    assert choice.metrics["augmentation"]["preset"] == preset
    compared = choice.metrics["augmentation"]["compared"]["any_way_up"]
    change = np.array(losses) - [0.3, 0.3, 0.4, 0.4]
    assert compared["validation_loss_change"] == pytest.approx(change.mean())
    assert compared["standard_error"] == pytest.approx(change.std(ddof=1) / 2)


def test_near_duplicates_count_as_one_in_the_standard_error(data):
    losses, reference = np.array([0.2, 0.2, 0.3, 0.5]), np.array([0.3, 0.3, 0.4, 0.4])
    pairs = replace(data.validation, groups=np.array(["x", "x", "y", "y"]))
    assert paired_change(losses, reference, pairs).standard_error == pytest.approx(0.05)  # of -0.1 and 0


def test_of_one_group_no_preset_is_known_to_be_better(data):
    validation = replace(data.validation, groups=np.array(["x"] * 4))
    heads = [head_of(data, "upright", [0.3] * 4), head_of(data, "any_way_up", [0.1] * 4)]
    choice = selection.choose_preset([heads], ["upright", "any_way_up"], validation)
    assert choice.preset == "upright" and "validation loss -0.200, standard error unknown" in choice.text
    json.dumps(choice.metrics, allow_nan=False)  # as every reader of `metrics.json` needs it


def test_weights_count_in_the_change_and_its_error(data):
    twice = replace(data.validation, weights=np.array([2.0, 1, 1, 0]))
    change, error = paired_change(np.array([0.2, 0.4, 0.4, 9]), np.full(4, 0.4), twice)
    assert change == pytest.approx(-0.1)
    assert error == pytest.approx(np.sqrt((0.2**2 + 0.1**2 + 0.1**2) * 3 / 2) / 4)  # three have a weight


def test_where_one_group_alone_has_a_weight_nothing_is_known_of_the_noise(data):
    validation = replace(data.validation, weights=np.array([1.0, 1, 0, 0]), groups=np.array(["x", "x", "y", "z"]))
    change = paired_change(np.array([0.1, 0.2, 9, 9]), np.full(4, 0.4), validation)
    assert change.standard_error is None and not change.is_gain


def test_without_a_head_for_each_preset_the_gentlest_is_chosen(data, trained):
    choice = selection.choose_preset([trained[:2]], ["upright", "any_way_up"], data.validation)
    assert choice.preset == "upright"
    assert choice.text.startswith("; augmentation upright is chosen (the gentlest: without `true` in head.augmented")
    assert choice.metrics == {"augmentation": {"preset": "upright", "compared": {}}}


@pytest.mark.parametrize("presets", [[], ["any_way_up"]])
def test_one_preset_is_no_choice(data, trained, presets):
    choice = selection.choose_preset([trained], presets, data.validation)
    assert (choice.preset, choice.text, choice.metrics) == (next(iter(presets), None), "", {})


def test_heads_of_presets_that_were_not_chosen_are_not_kept(data):
    variants = ["plain", "upright", "any_way_up"]
    heads = [head_of(data, variant, [loss] * 4) for variant, loss in zip(variants, (0.3, 0.2, 0.1), strict=True)]
    assert [head.variant for head in selection.of_preset(heads, "upright")] == ["plain", "upright"]
