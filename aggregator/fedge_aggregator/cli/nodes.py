# SPDX-License-Identifier: Apache-2.0
"""Commands of gateways: invite, list, revoke, and end a quarantine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from fedge_models.errors import ConfigError
from fedge_models.system.settings import parse_seconds

from ..config.load import load
from ..config.schema import Config
from .common import authority, check_federation, check_node, config_option, json_option, open_store, url
from .table import show

if TYPE_CHECKING:
    from ..store.store import Store

LONGEST_S = 365 * 86400.0  # that an invitation may be valid


@click.command()
@click.argument("node")
@click.option("--federation", "federations", multiple=True, required=True, help="May be given several times.")
@click.option("--expires", default="24h", show_default=True, help="How long the invitation is valid, at most 365d.")
@config_option
def invite(node: str, federations: tuple[str, ...], expires: str, config_path: Path) -> None:
    """Print an invitation for one gateway.

    It is a line to paste into `fedge-agent join`; it is valid once.
    """
    from ..gateway_api import enrolment

    config = load(config_path)
    for name in federations:
        check_federation(config, name)
    now, lifetime = time.time(), _lifetime(expires)
    keys = authority(config)
    click.echo(enrolment.invite(open_store(config), keys, url(config), node, federations, int(now + lifetime), now))


@click.group(name="nodes")
def nodes_group() -> None:
    """List, revoke and release enrolled gateways."""


@nodes_group.command(name="list")
@json_option
@config_option
def nodes_list(as_json: bool, config_path: Path) -> None:
    """List gateways, and how far each is trusted."""
    config = load(config_path)
    store = open_store(config)
    lines: list[str] = []
    rows = []
    for n in store.nodes():
        trust, reasons = _trust(store, config, n.name)
        lines += reasons
        row = {"name": n.name, "federations": store.federations_of(n.name), "trust": trust}
        rows.append({**row, "joined": n.joined, "seen": n.seen, "revoked": n.revoked})
    show(rows, as_json, "no gateway has joined yet; invite one: fedge-aggregator invite NAME --federation FEDERATION")
    if lines and not as_json:
        click.echo("\n".join(lines))


@nodes_group.command(name="release")
@click.argument("node")
@click.option("--federation", default=None, help="Only this federation; without: all where it is in quarantine.")
@config_option
def nodes_release(node: str, federation: str | None, config_path: Path) -> None:
    """End the quarantine of a gateway.

    It is on probation then: one clearly bad round leads back.
    """
    config = load(config_path)
    if federation is not None:
        check_federation(config, federation)
    store = open_store(config)
    check_node(store, node)
    wanted = [federation] if federation is not None else store.federations_of(node)
    done = [name for name in wanted if name in config.federation and _end_quarantine(store, config, node, name)]
    if not done:
        raise ConfigError(
            f"node {node!r} is not in quarantine in {', '.join(wanted)}; see: fedge-aggregator nodes list"
        )
    for name in done:
        click.echo(f"{node}: out of quarantine in {name}, on probation")


@nodes_group.command(name="revoke")
@click.argument("node")
@config_option
def nodes_revoke(node: str, config_path: Path) -> None:
    """Refuse a gateway from now on, for ever."""
    store = open_store(load(config_path))
    check_node(store, node)
    store.revoke(node, time.time())
    click.echo(f"{node}: revoked")


def _lifetime(text: str) -> float:
    """Seconds for which an invitation is valid. Raises ConfigError."""
    try:
        seconds = parse_seconds(text)
    except ValueError as e:
        raise ConfigError(f"--expires: {e}") from e
    if not 1 <= seconds <= LONGEST_S:
        raise ConfigError(f"--expires: expected a duration from 1s to {LONGEST_S / 86400:g}d, got {text!r}")
    return seconds


def _trust(store: Store, config: Config, node: str) -> tuple[dict[str, float], list[str]]:
    """A node's score in each federation, and the reasons for it in lines."""
    from ..rounds.trust.assessment import explain

    scores, lines = {}, []
    for name in store.federations_of(node):
        reputation = store.round_states.reputations(name).get(node)
        if reputation is not None and name in config.federation:
            limits = config.federation[name].trust
            scores[name] = round(reputation.score(limits), 3)
            lines += [f"{name}: {line}" for line in explain(node, reputation, limits, time.time())]
    return scores, lines


def _end_quarantine(store: Store, config: Config, node: str, federation: str) -> bool:
    """End a node's quarantine in one federation; False if it is in none."""
    from ..rounds.trust.reputation import leave_quarantine
    from ..store.audit import operator

    with store.transaction():
        reputation = store.round_states.reputations(federation).get(node)
        if reputation is None or not reputation.quarantined:
            return False
        after = leave_quarantine(reputation, config.federation[federation].trust)
        store.round_states.set_reputation(federation, node, after)
        store.audit.add(time.time(), "trust", f"let out of quarantine by {operator()}", federation, node)
    return True
