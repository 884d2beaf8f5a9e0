# SPDX-License-Identifier: Apache-2.0
"""The attacks by name. To add one: a class here or in a file of its kind, and a line below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedge_models.system import kinds

from .adaptive import Adaptive
from .among_the_honest import Alie, Ipm, Mimic
from .attack import Attack
from .backdoor import Backdoor
from .claims import FreeRider, LyingLosses, NotFinite, SampleInflation, SlowDrift
from .flips import Gaussian, LabelFlip, SignFlip
from .optimised import Fang, MinMax, MinSum, Sleeper
from .sybils import Sybils

ATTACKS: dict[str, type[Attack]] = {
    "adaptive": Adaptive,
    "alie": Alie,
    "backdoor": Backdoor,
    "fang": Fang,
    "free_rider": FreeRider,
    "gaussian": Gaussian,
    "honest": Attack,  # does no harm: what attacks are compared with, the same sites left out of the score
    "ipm": Ipm,
    "label_flip": LabelFlip,
    "lying_losses": LyingLosses,
    "mimic": Mimic,
    "min_max": MinMax,
    "min_sum": MinSum,
    "not_finite": NotFinite,
    "sample_inflation": SampleInflation,
    "sign_flip": SignFlip,
    "sleeper": Sleeper,
    "slow_drift": SlowDrift,
    "sybils": Sybils,
}


def build(table: Mapping[str, Any], where: str, key: str = "attack") -> Attack:
    """Build an attack from its table, e.g. ``{name = "alie"}``. Raises ConfigError for an unknown name or parameter."""
    return kinds.build(table, ATTACKS, where, key)
