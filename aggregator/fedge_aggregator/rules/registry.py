"""Which rules there are. To add one: a file here and a line below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedge_models import settings
from fedge_models.errors import ConfigError

from .fedavg import FedAvg
from .krum import Krum
from .rule import Rule
from .trimmed_mean import Median, TrimmedMean

RULES: dict[str, type[Any]] = {
    "fedavg": FedAvg,
    "krum": Krum,
    "median": Median,
    "trimmed_mean": TrimmedMean,
}


def build(table: Mapping[str, Any], where: str, key: str = "rule") -> Rule:
    """A rule from its table, e.g. ``{name = "trimmed_mean", trim = 1}``.

    Raises ConfigError for an unknown rule or parameter: a mistyped parameter must not mean "no protection".
    """
    name = table.get("name")
    if name not in RULES:
        raise ConfigError(f"{where}: key '{key}.name': no rule {name!r}; expected one of: {', '.join(sorted(RULES))}")
    rule: Rule = settings.convert({k: v for k, v in table.items() if k != "name"}, RULES[name], where, key)
    return rule
