"""All sections of params.yaml, and the rules between them. `thaw.core.params.load` imports this module by name."""

from collections.abc import Mapping, Sequence

from pydantic import model_validator

from thaw.backbones import registry
from thaw.backbones.cut_points import FEATURES, resolve_depths
from thaw.backbones.imagenet import imagenet_classes
from thaw.core.errors import ThawError
from thaw.core.kernels import BASELINE, NATIVE, Choice
from thaw.core.section import Section, Task, as_written
from thaw.core.task import MULTI, SINGLE
from thaw.parameters import several_labels
from thaw.parameters.augment import Augment
from thaw.parameters.backbone import Backbone
from thaw.parameters.download import Download
from thaw.parameters.evaluate import Evaluate
from thaw.parameters.fine_tune import FineTune
from thaw.parameters.head import Head
from thaw.parameters.image import Image
from thaw.parameters.split import Split


class Params(Section):
    task: Task
    download: Download
    split: Split
    augment: Augment
    image: Image
    backbone: Backbone
    head: Head
    fine_tune: FineTune
    evaluate: Evaluate

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise ThawError if a parameter does not fit the classes of the data."""
        from thaw.heads import protocol  # imports NumPy; what only checks params.yaml needs none

        self.evaluate.check_classes(classes)
        if self.task == SINGLE and self.head.kind == "network" and self.head.output == "sigmoid" and len(classes) != 2:
            raise ThawError(
                f"`head.output: sigmoid` needs two classes, but there are {len(classes):,}: set it to softmax"
            )
        if self.head.extend:
            protocol.check_negatives(classes)
        if self.head.extend is True:
            protocol.check_new(classes, protocol.number_repeated([name for _, name in imagenet_classes()]))

    def check_photographs(self, classes: Sequence[str], images: Mapping[str, Sequence[str]]) -> None:
        """Raise ThawError if a parameter does not fit the photographs; see `Split.check_columns`."""
        self.check_classes(classes)
        if self.task == SINGLE:
            self.split.check_labels(images["label"])
        self.split.check_columns(images)

    def check_task(self, has_several_labels: bool) -> None:
        """Raise ThawError if the photographs have several labels each and `task` says otherwise, or the reverse."""
        if has_several_labels != (self.task == MULTI):
            labels = "several labels" if has_several_labels else "one label"
            raise ThawError(
                f"task: {self.task} does not fit the photographs of an earlier run, which have {labels} each: run "
                "`dvc repro`, which collects them anew"
            )

    def check_kernels(self, choice: Choice) -> None:
        """Raise ThawError if the kernels of the baseline are in use for bfloat16: none multiplies it, and TensorFlow,
        which tries to on a processor with AVX-512, ends without an error."""
        asked = {"image.precision": self.image.precision, "fine_tune.gradients": self.fine_tune.gradients}
        for name, precision in asked.items():
            if choice.baseline and precision == "bfloat16":
                raise ThawError(
                    f"params.yaml: {name}: bfloat16 needs {NATIVE}=native in the environment: the kernels of "
                    f"{BASELINE} do not multiply it"
                )

    def check_folds(self, are_folds: bool) -> None:
        """Raise ThawError if a parameter does not fit folds, or one split."""
        if self.fine_tune.keep != "auto" and not are_folds:
            raise ThawError(
                f"fine_tune.keep: {self.fine_tune.keep} is for folds, and there is one split: set it to auto"
            )

    def check_backbone(self, backbone: Mapping) -> None:
        """Raise ThawError if backbone.json has not the layers, classes or maps that a parameter needs."""
        resolve_depths(self.fine_tune.freeze_depth, backbone)
        if self.head.extend is True and not backbone.get("classes", True):
            raise ThawError(
                f"head.extend: true needs the 1000 classes of the backbone, and {self.backbone.weights} is a trained "
                "model without them: to add classes to it, set head.extend to this file, too"
            )
        if self.head.kind == "network" and self.head.conv_blocks and not backbone.get("has_maps", True):
            raise ThawError(
                f"head.conv_blocks needs maps, and {self.backbone.weights} returns features: set head.conv_blocks to []"
            )

    def check_extended(self, model: Mapping | None, used: Mapping | None) -> None:
        """Raise ThawError if the model to extend was trained on other views; see `thaw.core.params.check_extended`."""
        run = used or self.image.model_dump()
        for name, undecided in (("size", None), ("resize", "auto")):
            if model and run[name] not in (model[name], undecided):
                raise ThawError(
                    f"head.extend: the model was trained with image.{name} {model[name]}, and this run has "
                    f"{run[name]}: set image.{name} to {model[name]}"
                )

    @model_validator(mode="after")
    def _all_sections_fit_the_task(self):
        if self.task == MULTI and (problem := several_labels.problem(self)):
            raise ValueError(problem)
        for section in (self.head, self.fine_tune):
            if self.task == SINGLE and section.focusing is not None:
                raise ValueError(f"{section.section}.focusing needs task: multi: set it to null")
        return self

    @model_validator(mode="after")
    def _head_fits_the_backbone(self):
        if self.head.kind == "linear" and self.backbone.pooling is None:
            raise ValueError("head.kind: linear needs pooled features: set backbone.pooling to avg or max")
        if self.head.kind == "network" and self.head.conv_blocks and self.backbone.pooling:
            raise ValueError("head.conv_blocks needs maps: set backbone.pooling to null, or head.conv_blocks to []")
        return self

    @model_validator(mode="after")
    def _extended_head_fits_the_other_sections(self):
        if self.head.extend and self.head.kind != "linear":
            raise ValueError("head.extend needs head.kind: linear: it adds classes to the linear head of a model")
        if self.head.extend and self.fine_tune.freeze_depth != "all":
            raise ValueError("head.extend needs fine_tune.freeze_depth: all: the features of the old classes must stay")
        if self.head.extend is True and not self.backbone.has_top:
            raise ValueError("head.extend: true needs backbone.top: true, which keeps the 1000 classes of the backbone")
        if self.head.extend and self.evaluate.threshold != 0.5:
            raise ValueError("evaluate.threshold must be 0.5 with head.extend: another one needs two classes")
        return self

    @model_validator(mode="after")
    def _kept_model_fits_the_other_sections(self):
        keep = self.fine_tune.keep
        if keep != "auto" and self.split.folds is None:
            raise ValueError(f"fine_tune.keep: {keep} is for folds: set it to auto, or set split.folds")
        if keep != "auto" and self.head.extend:
            raise ValueError(f"fine_tune.keep: {keep} needs head.extend: null: an extended head is not fine-tuned")
        return self

    @model_validator(mode="after")
    def _precision_fits_the_engine(self):
        if self.image.precision == "bfloat16" and self.image.engine != "openvino":
            raise ValueError("image.precision: bfloat16 needs image.engine: openvino")
        return self

    @model_validator(mode="after")
    def _own_network_stays_frozen(self):
        if not registry.BACKBONES[self.backbone.name].read:
            return self
        depth = self.fine_tune.freeze_depth
        if not {*([depth] if isinstance(depth, str) else depth)} <= {"all", FEATURES}:
            raise ValueError(
                f"fine_tune.freeze_depth should be all, not {as_written(depth)}: backbone.name: {self.backbone.name} "
                "is a network from a file, which cannot thaw"
            )
        if self.image.engine != "openvino":
            raise ValueError(f"backbone.name: {self.backbone.name} needs image.engine: openvino")
        return self

    @model_validator(mode="after")
    def _image_size_fits_the_backbone(self):
        size = self.image.size
        if size is not None and (problem := registry.size_problem(self.backbone.name, size)):
            raise ValueError(f"image.size {problem}")
        return self
