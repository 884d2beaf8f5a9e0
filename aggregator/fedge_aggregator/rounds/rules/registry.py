# SPDX-License-Identifier: Apache-2.0
"""The rules and mixings that there are. To add one: a file here and a line below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedge_models.errors import ConfigError
from fedge_models.system import kinds

from .bucketing import Bucketing
from .bulyan import Bulyan
from .centred_clipping import CentredClipping
from .fedavg import FedAvg
from .geometric_median import GeometricMedian
from .krum import Krum
from .median import Median
from .mixing import Mixing
from .multi_krum import MultiKrum
from .nearest_neighbour_mixing import NearestNeighbourMixing
from .norm_clipping import NormClipping
from .pipeline import Pipeline
from .rule import Rule
from .trimmed_mean import TrimmedMean

RULES: dict[str, type[Any]] = {
    "bulyan": Bulyan,
    "centred_clipping": CentredClipping,
    "fedavg": FedAvg,
    "geometric_median": GeometricMedian,
    "krum": Krum,
    "median": Median,
    "multi_krum": MultiKrum,
    "norm_clipping": NormClipping,
    "trimmed_mean": TrimmedMean,
}
MIXINGS: dict[str, type[Any]] = {
    "bucketing": Bucketing,
    "nearest_neighbour_mixing": NearestNeighbourMixing,
}


def build(table: Mapping[str, Any], where: str, key: str = "rule") -> Rule:
    """Build a rule from its table, e.g. ``{name = "trimmed_mean", byzantine = 1}``.

    Raises ConfigError for an unknown rule or parameter: a mistyped parameter must not mean "no protection".
    """
    rule: Rule = kinds.build(table, RULES, where, key)
    return rule


def build_mixing(table: Mapping[str, Any], where: str, key: str = "mixing") -> Mixing:
    """Build a mixing from its table, e.g. ``{name = "bucketing", size = 2}``. Raises ConfigError."""
    mixing: Mixing = kinds.build(table, MIXINGS, where, key)
    return mixing


def build_pipeline(rule: Mapping[str, Any], mixing: Mapping[str, Any] | None, where: str, prefix: str = "") -> Pipeline:
    """Build the rule and, unless None, the mixing of a federation. Raises ConfigError.

    prefix: of their keys in the file.
    """
    before = None if mixing is None else build_mixing(mixing, where, f"{prefix}mixing")
    made = build(rule, where, f"{prefix}rule")
    if isinstance(before, Bucketing) and isinstance(getattr(made, "byzantine", 0), float):
        raise ConfigError(
            f"{where}: key '{prefix}rule.byzantine': a share of the updates is another share of the buckets; expected "
            "a number of nodes with bucketing"
        )
    return Pipeline(made, before)
