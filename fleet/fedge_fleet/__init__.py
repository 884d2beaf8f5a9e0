# SPDX-License-Identifier: Apache-2.0
"""A whole fleet on one machine: recorded and simulated machines, stand-ins for a plant, simulations and the demo.

The public names are for data scientists: a federation on arrays or files of one's own. They are imported when they are
used, so that the commands start quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .simulate.own_data import Comparison, Site, simulate_federation

__all__ = ["Comparison", "Site", "simulate_federation"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(".simulate.own_data", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
