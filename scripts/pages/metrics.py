# SPDX-License-Identifier: Apache-2.0
"""The metrics of both programs, from the collectors that make them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fedge_agent import health
from fedge_aggregator.metrics import Metrics

from .markdown import code, table

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class Nothing(dict[str, Any]):
    """The status of an agent that has nothing yet: every part is there and empty."""

    def __missing__(self, key: str) -> Nothing:
        return Nothing()


class Agent:
    """An agent before its first reading, as the collector sees it."""

    latency = health.Latency()

    def status(self) -> Nothing:
        """Nothing has happened."""
        return Nothing()


def families(program: str) -> Iterable[Metric]:
    """The metric families of `agent` or `aggregator`."""
    return health.Metrics(Agent()).collect() if program == "agent" else Metrics().registry.collect()


def page(program: str) -> str:
    """A row a metric, by name."""
    rows = [(code(_name(f)), f.type, f.documentation) for f in families(program)]
    return table(("metric", "type", "what"), sorted(rows))


def _name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name
