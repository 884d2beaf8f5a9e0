# SPDX-License-Identifier: Apache-2.0
"""`fedge-aggregator statistics`: how the channels of a model are at its sites, and which of them stand out."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from fedge_models.statistics import words
from fedge_models.statistics.comparison import Difference
from fedge_models.system.text import counted, printable

from ..config.load import load
from .common import NO_MODEL, config_option, json_option, with_entries, with_model

if TYPE_CHECKING:
    from ..config.schema import Config
    from ..store.store import Store

NONE = "no site has sent statistics yet: set statistics = true in [model.{}] at the gateways that should"


@click.command()
@click.argument("federation", required=False)
@click.option("--sites", "all_sites", is_flag=True, help="List all sites, not only those that stand out.")
@json_option
@config_option
def statistics(federation: str | None, all_sites: bool, as_json: bool, config_path: Path) -> None:
    """Show how each channel is distributed over sites.

    Sites that stand out come first, with a guess why: another unit, a turned sign, swapped tags, a sensor that does not
    move. Works beside a running server.
    """
    config = load(config_path)
    store = with_entries(config, None) if federation is None else with_model(config, federation)
    wanted = [federation] if federation else [m.federation for m in store.models() if m.federation in config.federation]
    found = {name: _federation(config, store, name, time.time()) for name in wanted}
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for name, table in found.items():
        click.echo("\n".join(_lines(name, table, all_sites)))
    if not found:
        click.echo(NO_MODEL)


def _federation(config: Config, store: Store, name: str, now: float) -> dict[str, Any]:
    from ..federation import site_statistics, statistics_report

    columns = site_statistics.model_columns(store, name)
    rows = site_statistics.counting(store, name, now)
    found = site_statistics.decoded(rows, len(columns) - 1)
    published = store.statistics.published(name)
    return {
        "sites": len(found),
        "needs": config.federation[name].statistics_sites,
        "off": site_statistics.why_none(config.federation[name]),
        "left_out": [row.node for row in store.statistics.rows(name) if row.node not in found],
        "published": published.number,
        "created": published.created or None,
        "received": {row.node: row.received for row in rows},
        "channels": statistics_report.channels(columns, found),
    }


def _lines(name: str, table: dict[str, Any], all_sites: bool) -> list[str]:
    if table["off"]:
        return [f"{name}: takes no statistics: {table['off']}"]
    if not table["sites"]:
        return [f"{name}: {NONE.format(name)}"]
    made = [f"{name}: statistics of {counted(table['sites'], 'site')}, {_published(table)}"]
    if table["left_out"]:
        made.append(f"  left out (too old, in quarantine or damaged): {', '.join(table['left_out'])}")
    for channel in table["channels"]:
        made += _channel(channel, all_sites)
    return made


def _published(table: dict[str, Any]) -> str:
    if not table["published"]:
        return f"not published to gateways yet: a channel needs {table['needs']} sites"
    at = datetime.fromtimestamp(table["created"]).strftime("%Y-%m-%d %H:%M:%S")
    return f"number {table['published']} published to them at {at}"


def _channel(channel: dict[str, Any], all_sites: bool) -> list[str]:
    name, unit = printable(channel["channel"]), f" {printable(channel['unit'])}" if channel["unit"] else ""
    if channel["usual"] is None:
        made = [f"  {name}: {counted(channel['sites'], 'site')}, too few to compare (3 are needed)"]
    else:
        shape = words.bars(channel["histogram"]["shares"])
        over = f"{words.quantiles(channel['usual'])}{unit} over {counted(channel['sites'], 'site')}"
        made = [f"  {name}: {over}  |{shape}|"]
    shown = channel["of_sites"] if all_sites or channel["usual"] is None else channel["stand_out"]
    for node in shown:
        found = msgspec.convert(channel["of_sites"][node], Difference)
        if found.own is not None:
            said = [words.quantiles(found.own.three), words.rank(found), found.hint]
            made.append(f"    {node}: {'; '.join(text for text in said if text)}")
    return made
