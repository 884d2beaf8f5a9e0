# SPDX-License-Identifier: Apache-2.0
"""The aggregator's TOML file as frozen structs; `aggregator.example.toml` is the reference for operators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from fedge_models.system.settings import Seconds
from msgspec import Meta

from ..rounds.central_privacy import Privacy
from ..rounds.round import Mode, RoundConfig
from ..rounds.trust.reputation import TrustConfig

ADDRESS_FILE = "listen.addr"  # in the state folder: the listener as bound, for `invite`
STATUS_FILE = "status.addr"  # in the state folder: the status page as bound, for `status`
LEAST_QUORUM = 2  # a release made of one update would be that update
USUAL_BUFFER = 10  # updates; Nguyen et al. 2022
Table = dict[str, Any]
DEFAULT_RULE: Table = {"name": "trimmed_mean", "byzantine": 0.3}
DEFAULT_MIXING: Table = {"name": "nearest_neighbour_mixing", "byzantine": 0.3}
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class AggregatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[aggregator]``: this server."""

    state: Path  # folder for keys and the database; created with mode 0700
    scratch: Path | None = None  # folder for the rows of large rounds, shared with a cluster's workers; None: state
    addresses: Annotated[tuple[str, ...], Meta(min_length=1)]  # host names or IPs by which gateways reach it
    listen: str = "0.0.0.0:8443"  # for gateways; port 0: any free one
    operator: str = "127.0.0.1:9465"  # loopback page: /healthz, /metrics, /status
    max_connections: Annotated[int, Meta(ge=1)] = 256  # of gateways at once; more are refused
    request_timeout: Seconds = Seconds(30)  # from the first byte of a request to its last: slower senders are cut off
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class FederationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[federation.X]``: one model that gateways learn together."""

    rule: dict[str, Any] | None = None  # see docs/data-scientist/rules.md; None: DEFAULT_RULE, after DEFAULT_MIXING
    mixing: dict[str, Any] | None = None  # before the rule: nearest_neighbour_mixing or bucketing
    server_optimizer: dict[str, Any] = msgspec.field(default_factory=lambda: {"name": "sgd"})  # after the rule
    trust: TrustConfig = TrustConfig()  # see docs/explanation/trust.md
    held_back: Path | None = None  # npz with x and y, in units: updates that make the model worse on them lose trust
    privacy: Privacy | None = None  # noise on every release
    engine: str = "local"  # or "dask://HOST:PORT": where the rule is computed
    mode: Mode = "synchronous"  # or "asynchronous" (FedBuff); see docs/explanation/rounds.md
    quorum: Count | None = None  # updates that a deadline needs to end a round; None: as the rule needs, >= 2
    deadline: Seconds = Seconds(600)  # after a round's first update
    active: Seconds = Seconds(3600)  # a round does not wait for nodes that are silent for longer
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0  # synchronous: share of the active nodes that a round needs
    margin: Annotated[float, Meta(ge=0, le=10)] = 0.25  # synchronous, share < 1: more are asked by this share
    buffer: Count | None = None  # asynchronous: updates that end a round at once; None: 10, or the quorum if larger
    max_staleness: Annotated[int, Meta(ge=0, le=100_000)] = 20  # asynchronous: releases since the base of an update
    staleness_exponent: Annotated[float, Meta(ge=0, le=10)] = 0.5  # an update weighs 1 / (1 + staleness) ** this
    max_samples: Annotated[int, Meta(ge=1)] = 10_000  # a node's sample count is a claim: capped here
    max_saturated: Annotated[float, Meta(gt=0, le=1)] = 0.98  # largest share of an update's codes at the grid's ends
    statistics_sites: Annotated[int, Meta(ge=0, le=1_000_000)] = 5  # least sites of a channel's statistics; 0: none
    history: Annotated[int, Meta(ge=0, le=10_000)] = 10  # releases before the newest that can be rolled back to
    lifetime: Seconds = Seconds(365 * 86400)  # of a release; it is renewed at half of it

    def pipeline(self) -> tuple[Table, Table | None]:
        """The rule and the mixing in force; by default those that `benchmarks/attacks.py` found best."""
        if self.rule is not None:
            return self.rule, self.mixing
        if self.privacy is not None:
            return {"name": "fedavg"}, self.mixing  # the only rule with which noise keeps its promise
        return DEFAULT_RULE, DEFAULT_MIXING if self.mixing is None else self.mixing

    def limits(self, minimum: int) -> RoundConfig:
        """When a round ends, with a rule that needs `minimum` updates."""
        quorum = self.quorum if self.quorum is not None else max(LEAST_QUORUM, minimum)
        buffer = self.buffer if self.buffer is not None else max(USUAL_BUFFER, quorum)
        return RoundConfig(
            quorum=quorum,
            deadline_s=float(self.deadline),
            mode=self.mode,
            share=self.share,
            margin=self.margin,
            buffer=buffer,
            max_staleness=self.max_staleness,
        )


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    aggregator: AggregatorConfig
    federation: dict[str, FederationConfig] = {}
