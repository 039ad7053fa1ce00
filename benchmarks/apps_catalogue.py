"""The example apps: where each pair lies, and what must be installed to run it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

__all__ = ["APPS", "EXTRA", "NODES", "App"]

_EXAMPLES: Final = Path(__file__).parents[1] / "examples"

EXTRA: Final = "apps"
"""The extra of this package that installs the frameworks."""

NODES: Final = 5
"""Nodes of every run: one may attack, and the filter of the recipe keeps a majority of the others."""


@dataclass(frozen=True, slots=True)
class App:
    """One app in two folders, plain and robust, which hold the same files.

    Attributes
    ----------
    name : str
        What the page and the command line call it.
    plain, robust : Path
        The two folders, each with its pyproject.toml.
    package : str
        The Python package inside both.
    distribution : str
        The framework's distribution, whose version the page shows.
    modules : tuple of str
        What must be importable.
    """

    name: str
    plain: Path
    robust: Path
    package: str
    distribution: str
    modules: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The modules that are not installed here."""
        return tuple(name for name in self.modules if importlib.util.find_spec(name) is None)

    @property
    def framework(self) -> str:
        """The framework and its version."""
        return f"{self.distribution} {version(self.distribution).partition('+')[0]}"


def _pair(folder: str, name: str, distribution: str, *modules: str) -> App:
    root = _EXAMPLES / "apps" / folder
    return App(name, root / "plain", root / "robust", f"{folder}_app", distribution, modules)


APPS: Final[tuple[App, ...]] = (
    App("PyTorch", _EXAMPLES / "quickstart", _EXAMPLES / "quickstart-robust", "quickstart", "torch", ("torch", "sklearn")),
    _pair("numpy", "NumPy", "numpy", "numpy", "sklearn"),
    _pair("sklearn", "scikit-learn", "scikit-learn", "sklearn"),
    _pair("lightning", "PyTorch Lightning", "lightning", "lightning", "sklearn"),
    _pair("transformers", "Hugging Face transformers", "transformers", "transformers"),
    _pair("peft", "Hugging Face peft (LoRA)", "peft", "peft", "sklearn"),
    _pair("jax", "JAX", "jax", "jax", "sklearn"),
    _pair("keras", "TensorFlow with Keras", "keras", "keras", "tensorflow", "sklearn"),
)
