# SPDX-License-Identifier: Apache-2.0
"""Commands to watch the aggregator: the state of the running server, and the audit log."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system import service, times
from fedge_models.system.settings import parse_seconds
from fedge_models.system.text import counted

from ..config.load import load
from ..config.schema import STATUS_FILE
from ..rounds.rules.rule import FEWEST
from ..store.audit import KINDS
from .common import NO_MODEL, config_option, json_option, with_entries
from .table import idle_words, metric_line, older_words, show


@click.command()
@json_option
@config_option
def status(as_json: bool, config_path: Path) -> None:
    """Show what the running server does and waits for."""
    data = service.ask(load(config_path).aggregator.state / STATUS_FILE, "fedge-aggregator")
    if as_json:
        click.echo(data)
        return
    table = msgspec.json.decode(data)
    click.echo(f"listening on {table['address']}, up {table['uptime_s']:.0f} s")
    for name, entry in table["federations"].items():
        click.echo(f"{name}: release {entry['release']}, {entry['mode']}, {entry['rule']}; {entry['waiting']}")
        click.echo(f"  {_holds(entry)}")
        if why := entry.get("start_value_problem"):
            click.echo(f"  warning: {why}")
        if entry["idle"]:
            click.echo(f"  no update from {idle_words(entry['idle'])}")
        if entry["serves_older"]:
            click.echo(f"  refused the newest release: {older_words(entry['serves_older'])}")
        for metric, summary in entry["evaluation"].items():
            click.echo(f"  {metric_line(metric, summary)}")
        click.echo(f"  {_statistics(name, entry['statistics'])}")
    if not table["federations"]:
        click.echo(NO_MODEL)


def _statistics(name: str, entry: dict[str, Any]) -> str:
    """Whose statistics there are, and whether gateways see any, in words."""
    if entry["off"]:
        return f"statistics: none, {entry['off']}"
    if not entry["sites"]:
        return "statistics: no site has sent any"
    shown = f"number {entry['published']} published" if entry["published"] else f"published from {entry['needs']} on"
    return f"statistics: of {counted(entry['sites'], 'site')}, {shown}; see: fedge-aggregator statistics {name}"


def _holds(entry: dict[str, Any]) -> str:
    """Against how many hostile gateways the rule holds, in words: when all send, and when the deadline ends a round."""
    active, hostile, all_ = len(entry["active"]), entry["holds"], entry["in_a_round"]
    out = entry["in_quarantine"]
    if not active:
        return "no gateway is active"
    if not all_:
        none = "none sends updates that count: those that do are in quarantine" if out else "none sends updates"
        return f"{counted(active, 'gateway')} active, and {none}"
    besides = f", besides the {out} in quarantine," if out else ""
    text = f"of {active} active gateways {hostile or 'none'}{besides} may be hostile"
    if not hostile and all_ < FEWEST:
        return f"{text}: no rule is robust among {all_} updates, fewer than {FEWEST}; only trust looks at them"
    if entry["holds_least"] == hostile:
        return text
    least, then = counted(entry["least_in_a_round"], "update"), entry["holds_least"] or "none"
    return f"{text} when a round has {all_} updates; its deadline may end it with {least}, and then {then} may be"


@click.command()
@click.option("--since", default="1970-01-01", help='A duration ago ("24h", "7d") or a date ("2026-11-24T08:00").')
@click.option("--federation", default=None, help="Only this federation.")
@click.option("--what", default=None, type=click.Choice(KINDS), help="Only entries of this kind.")
@json_option
@config_option
def audit(since: str, federation: str | None, what: str | None, as_json: bool, config_path: Path) -> None:
    """Print the audit log.

    It has joins, updates, refusals with their reasons, rounds, releases and what operators did.
    """
    store = with_entries(load(config_path), federation)
    rows = store.audit.read(_unix_time(since, time.time()), federation, what)
    show([row._asdict() for row in rows], as_json, "no entries; without --since, --federation and --what there may be")


def _unix_time(text: str, now: float) -> float:
    """Unix time, s, of a duration ago or a local date. Raises ConfigError."""
    try:
        return now - parse_seconds(text)
    except ValueError:
        pass
    try:
        return times.parse(text, zone=datetime.now().astimezone().tzinfo or times.UTC) / 1e9
    except ValueError as e:
        raise ConfigError(
            f'--since: expected a duration such as "24h" or a date such as "2026-11-24", got {text!r}'
        ) from e
