# SPDX-License-Identifier: Apache-2.0
"""What came of a rehearsal: figures of each gateway and federation, and the problems. Reads the files that it left."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import msgspec
from fedge_agent.cli.status_lines import decides_with
from fedge_aggregator.config.load import load
from fedge_aggregator.store.store import Store

from . import orders
from .orders import Sent
from .plan import Gateway, Plan
from .stage import AGGREGATOR, name_of
from .watch import Watch, alike

DAY_S = 86_400.0


class GatewayResult(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway."""

    file: str
    decided: int  # windows
    windows: dict[str, int]  # asset -> windows
    events: dict[str, int]  # asset -> events opened
    outputs: list[dict[str, Any]]  # what each output would have sent
    samples: dict[str, int]  # model -> samples stored
    rounds: dict[str, list[int]]  # federation -> releases that this gateway's updates are in
    serves: dict[str, str]  # model -> what decides here, in words
    own_share: dict[str, float | None]  # model -> how much the own model counts
    readings: dict[str, int]  # source -> values taken, of those replayed
    replayed: dict[str, int]
    unusable: dict[str, dict[str, int]]  # source -> what of its recording could not be used
    memory_mib: float | None  # at most
    cpu_s: float | None
    cpu_share: float | None  # of one core
    bytes_up: int
    bytes_down: int
    bytes_per_round: float | None  # both ways
    bytes_per_day: float | None  # at the configured interval of training
    status: list[str]  # lines of `fedge-agent status` about assets and models
    problems: list[str]  # at the end
    passed: dict[str, float]  # problems that were over by the end -> s after the beginning when first seen


class FederationResult(msgspec.Struct, frozen=True, kw_only=True):
    """One federation."""

    rounds: int
    rule: str
    waiting: str
    problems: list[str]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The whole rehearsal."""

    folder: str
    speed: float
    seconds: float
    differs: list[str]  # in words, what is not as in the user's files
    gateways: dict[str, GatewayResult]
    federations: dict[str, FederationResult]
    aggregator_memory_mib: float | None
    aggregator_cpu_s: float | None
    failed: str | None  # the last words of a process that ended by itself

    @property
    def problems(self) -> int:
        """How many problems there are at the end."""
        found = [gateway.problems for gateway in self.gateways.values()]
        found += [federation.problems for federation in self.federations.values()]
        return sum(map(len, found)) + (self.failed is not None)


def evaluate(plan: Plan, watch: Watch, seconds: float, failed: str | None) -> Outcome:
    """Put together what was seen; the processes have ended."""
    taken = _rounds(plan)
    memory, cpu = watch.use.get(AGGREGATOR, (None, None))
    gateways = {
        name: _gateway(gateway, watch, taken, seconds, plan.problems[name]) for name, gateway in plan.gateways.items()
    }
    return Outcome(
        folder=str(plan.folder.root),
        speed=plan.speed,
        seconds=round(seconds, 1),
        differs=plan.words,
        gateways=gateways,
        federations=_federations(watch),
        aggregator_memory_mib=memory,
        aggregator_cpu_s=cpu,
        failed=failed,
    )


def _rounds(plan: Plan) -> dict[str, dict[str, list[int]]]:
    """Gateway -> federation -> releases that its updates are in, from the aggregator's store."""
    found: dict[str, dict[str, list[int]]] = {name: {f: [] for f in g.federations} for name, g in plan.gateways.items()}
    if plan.aggregator is None:
        return found
    with closing(Store(load(plan.aggregator).aggregator.state)) as store:
        for model in store.models():
            for row in store.releases.listed(model.federation):
                for node, figures in row.details.get("nodes", {}).items():
                    if node in found and figures.get("share", 1):
                        found[node].setdefault(model.federation, []).append(row.version)
    return found


def _federations(watch: Watch) -> dict[str, FederationResult]:
    found = {}
    for name, made in watch.releases().items():
        entry = (watch.aggregator or {})["federations"][name]
        short = made < watch.rounds
        problems = [f"rounds made: {made}, expected {watch.rounds}: {entry['waiting']}"] if short else []
        found[name] = FederationResult(rounds=made, rule=entry["rule"], waiting=entry["waiting"], problems=problems)
    return found


def _gateway(
    gateway: Gateway, watch: Watch, taken: Mapping[str, dict[str, list[int]]], seconds: float, recorded: list[str]
) -> GatewayResult:
    name = gateway.file.name
    status = watch.statuses.get(name, {})
    assets, models = status.get("assets", {}), status.get("models", {})
    sent = orders.of_gateway(gateway)
    memory, cpu = watch.use.get(name_of(name), (None, None))
    rounds = {federation: sorted(found) for federation, found in taken[name].items()}
    up, down = status.get("bytes_up", 0), status.get("bytes_down", 0)
    per_round = (up + down) / count if (count := max(map(len, rounds.values()), default=0)) else None
    problems = [*recorded, *watch.now.get(name, []), *_missing(gateway, watch, rounds, assets)]
    return GatewayResult(
        file=str(gateway.file.path),
        decided=status.get("latency", {}).get("decisions", 0),
        windows={asset: entry["counters"]["windows"] for asset, entry in assets.items()},
        events={asset: entry["events"] for asset, entry in assets.items()},
        outputs=[_output(s) for s in sent],
        samples={model: sum(entry["samples"].values()) for model, entry in models.items()},
        rounds=rounds,
        serves={m: _serves(entry) for m, entry in models.items()},
        own_share={m: entry["own_share"] for m, entry in models.items()},
        readings={s: entry["readings"] for s, entry in status.get("sources", {}).items()},
        replayed=gateway.expected,
        unusable=gateway.counted,
        memory_mib=memory,
        cpu_s=cpu,
        cpu_share=cpu / seconds if cpu is not None and seconds else None,
        bytes_up=up,
        bytes_down=down,
        bytes_per_round=per_round,
        bytes_per_day=None if per_round is None else per_round * DAY_S / _interval_s(gateway),
        status=watch.lines.get(name, []),
        problems=problems,
        passed=_passed(watch, name, problems),
    )


def _passed(watch: Watch, name: str, problems: list[str]) -> dict[str, float]:
    """Problems that are over -> s after the beginning when first seen."""
    last = set(map(alike, problems))
    return {text: round(at, 1) for key, (text, at) in watch.seen.get(name, {}).items() if key not in last}


def _missing(gateway: Gateway, watch: Watch, rounds: Mapping[str, list[int]], assets: Mapping[str, Any]) -> list[str]:
    """What should have come of a gateway and did not, beside the problems that it states itself."""
    name = gateway.file.name
    found = [
        f"source {source}: {left:,} of {gateway.expected[source]:,} values of its recording were not read in time"
        for source, left in watch.unread().get(name, {}).items()
    ]
    found += [f"asset {asset}: decided no window" for asset, entry in assets.items() if entry["last"] is None]
    left_out = [federation for federation, those in rounds.items() if not those and watch.rounds]
    return found + [f"model {name}: took part in no round{_why_untrained(gateway, watch, name)}" for name in left_out]


def _why_untrained(gateway: Gateway, watch: Watch, model: str) -> str:
    """Why a gateway has not trained, where its number of samples says it."""
    entry = watch.statuses.get(gateway.file.name, {}).get("models", {}).get(model)
    have, need = sum(entry["samples"].values()) if entry else 0, gateway.file.config.model[model].training.min_samples
    return f": it has {have} of the {need} samples that a training needs (min_samples)" if have < need else ""


def _output(sent: Sent) -> dict[str, Any]:
    return {**sent._asdict(), "total": sent.total}


def _serves(entry: dict[str, Any]) -> str:
    waits = entry["waits_for"]
    return f"waits for {waits}" if waits else decides_with(entry["release"], entry["own_share"])


def _interval_s(gateway: Gateway) -> float:
    """The shortest interval of training that the user has configured."""
    models = gateway.file.config.model
    return min(float(models[name].training.interval) for name in gateway.federations)
