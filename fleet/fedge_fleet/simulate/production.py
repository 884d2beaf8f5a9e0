# SPDX-License-Identifier: Apache-2.0
"""Which settings a simulation has of aggregator and gateways, and which of them differ from what these have by default.

A federation is simulated as it would run: what is not said is the default of the aggregator's and the agent's files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
from fedge_agent.config.schema import Training
from fedge_aggregator.config.schema import FederationConfig
from fedge_aggregator.rounds.trust.reputation import TrustConfig
from fedge_models.system import settings

from ..data.member import Plan
from .config import Config

ROUNDS = 20
NOT_SIMULATED = (
    "Time: all data are there from the first round. A gateway collects them while it runs, and trains by its interval.",
    "How a release spreads over the gateways.",
    "Networks and disks: TLS, HTTP, SQLite.",
)
SCHEDULE = frozenset({"interval", "min_samples", "new_samples", "holdout", "latency_budget"})  # of time and of a board


class Difference(NamedTuple):
    """A setting that is not the default."""

    key: str
    here: str
    default: str


def training(config: Config, where: str, base: Plan | None = None) -> Training:
    """How every site trains. base: of a recorded set. Raises ConfigError."""
    own = msgspec.structs.asdict(base.training) if base is not None else {}
    if base is not None:
        own |= {"learning_rate_halving": base.halving, "drift_correction": base.correction, "fine_tune": base.fine_tune}
    given = {} if config.drift_correction is None else {"drift_correction": config.drift_correction}
    return settings.convert({**own, **config.training, **given}, Training, where, "training")


def plan(config: Config, where: str, base: Plan | None = None) -> Plan:
    """The rounds and the training of a federation. Raises ConfigError."""
    how = training(config, where, base)
    made = Plan(ROUNDS, how) if base is None else replace(base, training=how)
    return replace(
        made,
        rounds=config.rounds or made.rounds,
        halving=how.learning_rate_halving,
        correction=how.drift_correction,
        fine_tune=how.fine_tune,
    )


def federation(config: Config, plan: Plan, where: str) -> FederationConfig:
    """Return the table that the aggregator's file would hold. Raises ConfigError."""
    own = {"rule": config.rule, "mixing": config.mixing, "server_optimizer": config.server_optimizer}
    trust = {"action": "watch"} if config.trust is None else config.trust
    settings.convert(trust, TrustConfig, where, "trust")  # names the key as it is here
    table = {"max_samples": plan.max_samples, "trust": trust, **config.federation}
    table |= {k: v for k, v in own.items() if v is not None}
    return settings.convert(table, FederationConfig, where, "federation")


def differences(config: Config, where: str, how: Plan) -> list[Difference]:
    """Return every setting that differs from the defaults of aggregator and agent."""
    table = federation(config, how, where)
    return [
        *_changed("federation.X.", _pipeline(table), _pipeline(FederationConfig())),
        *_changed("federation.X.", _others(table), _others(FederationConfig())),
        *_changed("federation.X.trust.", table.trust, FederationConfig().trust),
        *_changed("model.X.training.", _scheduled(how.training), _scheduled(Training())),
    ]


def _pipeline(federation: FederationConfig) -> dict[str, Any]:
    rule, mixing = federation.pipeline()
    return {"rule": rule, "mixing": mixing}


def _others(federation: FederationConfig) -> dict[str, Any]:
    apart = ("rule", "mixing", "trust")
    return {k: v for k, v in msgspec.structs.asdict(federation).items() if k not in apart}


def _scheduled(how: Any) -> dict[str, Any]:
    fields = {**msgspec.structs.asdict(Training()), **msgspec.structs.asdict(how)}
    return {k: v for k, v in fields.items() if k not in SCHEDULE}


def _changed(prefix: str, here: Any, default: Any) -> Iterator[Difference]:
    mine, usual = (v if isinstance(v, dict) else msgspec.structs.asdict(v) for v in (here, default))
    for key, value in mine.items():
        if value != usual[key]:
            yield Difference(prefix + key, told(value), told(usual[key]))


def told(value: Any) -> str:
    """A setting as people write it."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(str(v) if k == "name" else f"{k} {told(v)}" for k, v in value.items())
    if isinstance(value, (tuple, list)):
        return ", ".join(map(told, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
