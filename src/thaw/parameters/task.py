"""The parameter `task`: one label for each photograph, or several."""

from typing import Literal

from thaw.core.task import MULTI, SINGLE

Task = Literal[SINGLE, MULTI]
