"""What the sections `head` and `fine_tune` share: how a network is trained."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from thaw.core.section import Amplitude, Positive, Section, Seed


class Training(Section):
    """The parameters of `training.loop.fit`.

    It also reads `layer_decay`, `ema`, `prune_above` and `gradients`: fields of `FineTune`, constants of `Head`; and
    `centre_gradients`, a constant of both.
    """

    section: ClassVar[str]  # its name in params.yaml, for errors

    class_weight: Literal["balanced", None]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    patience: Annotated[int, Field(ge=1)] | None
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    learning_rate: Positive
    warmup_epochs: Annotated[float, Field(ge=0)]
    weight_decay: Amplitude
    label_smoothing: Amplitude
    focusing: Annotated[float, Field(gt=0, le=10)] | None  # with several labels
    seed: Seed
