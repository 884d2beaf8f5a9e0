# SPDX-License-Identifier: Apache-2.0
"""Load, train, evaluate and score ONNX models in NumPy, and exchange signed updates of their weights.

The names of `__all__` are the public interface (docs/data-scientist/python-api.md). They are imported at first use, so
that `import fedge_models` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ConfigError, DataError, FedgeError, ModelError
    from .graph.card import Card, Channel, Derived, ImageSpec, InputSpec, Objective, Target, WindowSpec
    from .model import Model, load, starter
    from .training.config import TrainingConfig
    from .training.loop import FitReport

__version__ = "0.1.0"
__all__ = [
    "Card",
    "Channel",
    "ConfigError",
    "DataError",
    "Derived",
    "FedgeError",
    "FitReport",
    "ImageSpec",
    "InputSpec",
    "Model",
    "ModelError",
    "Objective",
    "Target",
    "TrainingConfig",
    "WindowSpec",
    "__version__",
    "load",
    "starter",
]
_MODULES = {
    "errors": ("ConfigError", "DataError", "FedgeError", "ModelError"),
    "graph.card": ("Card", "Channel", "Derived", "ImageSpec", "InputSpec", "Objective", "Target", "WindowSpec"),
    "model": ("Model", "load", "starter"),
    "training.config": ("TrainingConfig",),
    "training.loop": ("FitReport",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
