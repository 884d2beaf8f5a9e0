# SPDX-License-Identifier: Apache-2.0
"""Read the aggregator's file and refuse whatever could not hold what it promises, naming file and key."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

from fedge_models.errors import ConfigError
from fedge_models.statistics.over_sites import LEAST_SITES
from fedge_models.system import settings
from fedge_models.system.service import parse_address, parse_loopback

from ..rounds.engine.runners import build_runner
from .averaging import build_averaging
from .schema import Config, FederationConfig

HOST = r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?"


def load(path: Path) -> Config:
    """Read and check the file. Raises ConfigError naming file and key."""
    settings.require(path, "fedge-aggregator")
    config = settings.load(path, Config)
    parse_address(config.aggregator.listen, f"{path}: key 'aggregator.listen'")
    parse_loopback(config.aggregator.operator, f"{path}: key 'aggregator.operator'")
    for address in config.aggregator.addresses:
        if not _is_ip(address) and not re.fullmatch(HOST, address):
            raise ConfigError(f"{path}: key 'aggregator.addresses': expected host names or IPs, got {address!r}")
    for name, federation in config.federation.items():
        settings.check_name(name, f"{path}: key 'federation'")
        _check(federation, str(path), f"federation.{name}")
    return config


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check(federation: FederationConfig, where: str, key: str) -> None:
    """Raise ConfigError for a rule, optimiser, engine or privacy that there is not or that do not go together."""
    how = build_averaging(federation, where, f"{key}.")
    build_runner(federation.engine, where, f"{key}.engine")
    if federation.privacy and federation.mode == "asynchronous":
        raise ConfigError(f"{where}: key '{key}.privacy': needs synchronous rounds, where all count as often as others")
    if 0 < federation.statistics_sites < LEAST_SITES:
        raise ConfigError(
            f"{where}: key '{key}.statistics_sites': got {federation.statistics_sites}; expected {LEAST_SITES} or "
            "more, so that no gateway can tell another's values from its own, or 0 for no statistics"
        )
    _check_rounds(federation, how.name, how.pipeline.minimum(), f"{where}: key '{key}")


def _check_rounds(federation: FederationConfig, name: str, need: int, where: str) -> None:
    """Raise ConfigError for numbers with which no round could hold what the rule promises."""
    limits = federation.limits(need)
    if limits.quorum < need:
        raise ConfigError(
            f"{where}.quorum': {limits.quorum}, but rule {name} with these parameters protects from {need} updates on; "
            f"expected {need} or more, or a rule that needs fewer"
        )
    if limits.mode == "asynchronous" and limits.buffer < limits.quorum:
        raise ConfigError(
            f"{where}.buffer': {limits.buffer} updates are fewer than the quorum; expected {limits.quorum} or more"
        )
    if federation.mode == "asynchronous" and federation.share < 1:
        raise ConfigError(
            f"{where}.share': {federation.share:g} is for synchronous rounds; an asynchronous one takes all"
        )
