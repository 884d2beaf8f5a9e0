# SPDX-License-Identifier: Apache-2.0
"""The rules that a comparison tries, by name: the run's own, the aggregator's default, and those of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from fedge_aggregator.rounds.rules.registry import RULES
from fedge_models.errors import ConfigError
from fedge_models.system.choices import hint

from .config import Config, Table

DEFAULT, OWN, UNPROTECTED = "default", "as configured", "fedavg-no-trust"
USUAL = (DEFAULT, UNPROTECTED, "fedavg", "median", "geometric_median")
WITHOUT = "-no-trust"
HOSTILE = 0.3  # share that rules with a `byzantine` are told, as the aggregator's default is


class Choice(NamedTuple):
    """A rule, what goes before it, and trust."""

    name: str
    rule: Table | None
    mixing: Table | None
    trust: Table | None

    def applied(self, config: Config) -> Config:
        """The settings with this rule."""
        return msgspec.structs.replace(config, rule=self.rule, mixing=self.mixing, trust=self.trust)


def own(config: Config) -> Choice:
    """The rule of the settings; called `default` where they name none."""
    plain = config.rule is None and config.mixing is None and config.trust == {}
    return Choice(DEFAULT if plain else OWN, config.rule, config.mixing, config.trust)


def choices(config: Config, where: str) -> list[Choice]:
    """Return the rules that are compared, the run's own first. Raises ConfigError for one that does not exist."""
    names = list(config.rules or (USUAL if config.compare else (UNPROTECTED,)))
    if "all" in names:
        names = [DEFAULT, UNPROTECTED, *RULES]
    first = own(config)
    found = {first.name: first} | {name: _named(name, where) for name in names if name != first.name}
    return list({choice[1:].__repr__(): choice for choice in reversed(found.values())}.values())[::-1]


def attacks(config: Config, where: str, known: Sequence[str], usual: Sequence[str]) -> list[str]:
    """Return the names of the attacks that are compared. Raises ConfigError for one that does not exist."""
    names = list(config.attacks or usual)
    if "all" in names:
        return [name for name in known if name != "honest"]
    for name in names:
        if name not in known:
            raise ConfigError(f"{where}: key 'attacks': no attack {name!r}; {hint(name, known)}")
    return names


def _named(name: str, where: str) -> Choice:
    if name == DEFAULT:
        return Choice(DEFAULT, None, None, {})
    rule = name.removesuffix(WITHOUT)
    if rule not in RULES:
        raise ConfigError(f"{where}: key 'rules': no rule {name!r}; {hint(rule, [DEFAULT, *RULES])}")
    told = {"byzantine": HOSTILE} if "byzantine" in RULES[rule].__struct_fields__ else {}
    return Choice(name, {"name": rule, **told}, None, None if name.endswith(WITHOUT) else {})
