# SPDX-License-Identifier: Apache-2.0
"""The problems by name. To add one: a function here or in a file of its family, and a line below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fedge_models.errors import ConfigError

from .batteries import liion
from .bearings import bearings
from .engines import cmapss
from .heat import nab
from .inspection import elpv, xsdd, xsdd_by_class
from .milling import ai4i
from .problem import Problem
from .vibration import fan, mfpt
from .water import skab, skab_experiments

SETS: Mapping[str, Callable[[Path], Problem]] = {
    f.__name__: f for f in (skab, skab_experiments, nab, ai4i, fan, mfpt, cmapss, liion, elpv, xsdd, xsdd_by_class)
}


def load(name: str, data: Path | None, where: str) -> Problem:
    """Load a problem by name; `data`: folder of recorded data. Raises ConfigError naming `where` and the key."""
    if name == "bearings":
        return bearings()
    if name not in SETS:
        known = ", ".join(sorted([*SETS, "bearings"]))
        raise ConfigError(f"{where}: key 'set': no data set {name!r}; expected one of: {known}")
    if data is None:
        raise ConfigError(f"{where}: key 'data': the set {name!r} is recorded; give the folder that holds the sets")
    try:
        return SETS[name](data)
    except OSError as e:
        raise ConfigError(f"{where}: key 'data': the set {name!r} cannot be read from {data}: {e}") from e
