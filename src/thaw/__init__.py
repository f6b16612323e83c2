"""Reproducible transfer learning."""

from thaw.core import kernels  # noqa: F401 - first of all: it sets what numerical libraries read when imported
