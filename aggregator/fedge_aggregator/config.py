"""The aggregator's TOML file as frozen structs; `aggregator.example.toml` is the reference for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from fedge_models import settings
from fedge_models.errors import ConfigError
from fedge_models.service import parse_address, parse_loopback
from fedge_models.settings import Seconds
from msgspec import Meta

from .rules.registry import build

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"


class AggregatorConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[aggregator]``: this server."""

    state: Path  # folder for keys and the database; created with mode 0700
    addresses: Annotated[tuple[str, ...], Meta(min_length=1)]  # host names or IPs by which gateways reach it
    listen: str = "0.0.0.0:8443"  # for gateways; port 0: any free one
    operator: str = "127.0.0.1:9465"  # loopback page: /healthz, /metrics, /status
    max_connections: Annotated[int, Meta(ge=1)] = 256  # of gateways at once; more are turned away
    request_timeout: Seconds = Seconds(30)  # from a request's first byte to its last: slow senders are cut off
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class FederationConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[federation.X]``: one model that gateways learn together."""

    rule: dict[str, Any] = msgspec.field(default_factory=lambda: {"name": "fedavg"})  # see docs/rules.md
    quorum: Annotated[int, Meta(ge=1)] = 2  # updates without which a deadline does not end a round
    deadline: Seconds = Seconds(600)  # after a round's first update
    active: Seconds = Seconds(3600)  # nodes silent for longer are not waited for
    max_samples: Annotated[int, Meta(ge=1)] = 10_000  # a sample count is a claim: capped here
    lifetime: Seconds = Seconds(365 * 86400)  # of a release; renewed by half-time


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    aggregator: AggregatorConfig
    federation: dict[str, FederationConfig] = {}


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError naming file and key."""
    config = settings.load(path, Config)
    parse_address(config.aggregator.listen, f"{path}: key 'aggregator.listen'")
    parse_loopback(config.aggregator.operator, f"{path}: key 'aggregator.operator'")
    for name, federation in config.federation.items():
        if not re.match(NAME, name):
            raise ConfigError(f"{path}: key 'federation': name {name!r} must match {NAME}")
        build(federation.rule, str(path), f"federation.{name}.rule")
    return config
