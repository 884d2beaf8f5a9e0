# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent compare`: is this machine like those of other sites?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.statistics import words
from fedge_models.statistics.comparison import Difference
from fedge_models.system import service, times
from fedge_models.system.choices import hint
from fedge_models.system.text import counted, printable

from ..health import PROGRAM, STATUS_FILE
from .options import config_option, json_option, load_config

WINDOWS = "of {} so far"


@click.command()
@click.argument("asset", required=False)
@json_option
@config_option
def compare(asset: str | None, as_json: bool, config_path: Path) -> None:
    """Compare machines with those of other sites.

    For each channel: its median (and the quantiles 10 % and 90 %) here, the usual range at other sites, and how many
    of them it is above or below. Channels that differ most come first, with a guess why: another unit, a turned sign,
    swapped tags, a sensor that does not move.
    """
    config = load_config(config_path)
    if asset is not None and asset not in config.asset:
        raise ConfigError(f"no asset {asset!r}; {hint(asset, config.asset)}")
    data = service.ask(config.agent.state / STATUS_FILE, PROGRAM, "/comparison", config.agent.status)
    try:
        models: dict[str, Any] = msgspec.json.decode(data)
    except msgspec.DecodeError as e:
        raise UnreachableError(f"{PROGRAM} gave an answer that is no JSON: {e}") from e
    if asset is not None:
        wanted = config.asset[asset].model
        models = {wanted: {**models[wanted], "machines": {asset: models[wanted]["machines"].get(asset)}}}
    click.echo(msgspec.json.encode(models) if as_json else "\n".join(lines(models)))


def lines(models: dict[str, Any]) -> Iterator[str]:
    """The comparison in lines."""
    if not models:
        yield "no models: add [model.NAME] to the configuration"
    for name, entry in models.items():
        yield f"model {name}: {_state(entry)}"
        for machine, table in entry["machines"].items():
            yield from _machine(machine, table)


def _machine(name: str, table: dict[str, Any] | None) -> Iterator[str]:
    if not table or not table["windows"]:
        yield f"  {name}: no window yet"
        return
    yield f"  {name}: of {counted(table['windows'], 'window')}"
    for channel in table["channels"]:
        yield f"    {words.line(msgspec.convert(channel, Difference))}"


def _state(entry: dict[str, Any]) -> str:
    """Whether there is anything to compare with, and if not, why and what to do."""
    if entry["off"]:
        return f"not compared with other sites: {entry['off']}"
    if entry["refused"]:
        return f"not compared with other sites: {printable(entry['refused'])}"
    if entry["sites"]:
        since = times.shown(round(entry["created"] * 1e9))
        return f"compared with statistics of {counted(entry['sites'], 'site')}, as of {since} UTC"
    if not entry["sent"]:
        return f"statistics are sent from {entry['needs']} windows on; it has {entry['windows']}"
    return "statistics are sent; too few other sites have sent theirs to compare with"
