"""The section `image`: what the network sees of a photograph, and which engine runs it."""

from typing import Annotated, Literal

from pydantic import Field

from thaw.core.section import Section


class Image(Section):
    size: Annotated[int, Field(ge=32, le=2048)] | None
    resize: Literal["crop", "pad", "squash", "auto"]
    engine: Literal["openvino", "tensorflow"]
    precision: Literal["float32", "bfloat16"]
