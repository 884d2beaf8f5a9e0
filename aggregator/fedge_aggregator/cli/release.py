# SPDX-License-Identifier: Apache-2.0
"""Commands of releases: what rounds have led to, going back to an older release, and pinning one."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
import msgspec
from fedge_models.errors import ConfigError
from fedge_models.messages.release import DRIFT_SHARE

from ..config.load import load
from .common import NO_MODEL, authority, config_option, json_option, with_entries, with_model
from .table import idle_words, metric_line, show

if TYPE_CHECKING:
    from ..store.releases import ReleaseRow

WIDTH = 100  # of a terminal
MIDDLE_SAMPLES = "samples at the site in the middle"
VERSION = click.IntRange(1, (1 << 63) - 1)


@click.command()
@click.option("--federation", default=None, help="Only this federation.")
@json_option
@config_option
def rounds(federation: str | None, as_json: bool, config_path: Path) -> None:
    """List rounds, and who is in the open one.

    Each with the rule and the figures of its release, and the worst site by what nodes report. What does not fit 100
    columns is in lines below.
    """
    store = with_entries(load(config_path), federation)
    rows: list[dict[str, Any]] = []
    for model in store.models():
        if federation in (None, model.federation):
            for row in store.releases.listed(model.federation):
                told = _figures(row, as_json) | _sites(row, as_json)
                rows.append({"federation": model.federation, **_listed(row), **told})
            waiting = sorted(store.updates.arrivals(model.federation))
            rows.append({"federation": model.federation, "release": "open", "created": None, "rule": "", "in": waiting})
    show(rows, as_json, NO_MODEL, WIDTH)


@click.group(name="release")
def release_group() -> None:
    """List, show, roll back and pin releases."""


@release_group.command(name="list")
@click.argument("federation")
@json_option
@config_option
def release_list(federation: str, as_json: bool, config_path: Path) -> None:
    """List the releases of a federation.

    Those marked `kept` still have their weights here: `release rollback` can go back to them.
    """
    store = with_model(load(config_path), federation)
    weights, pin = store.releases.with_weights(federation), store.releases.pin(federation)
    rows = [{**_listed(row), "kept": row.version in weights} for row in store.releases.listed(federation)]
    rows[-1]["pinned"] = pin is not None
    show(rows, as_json)


@release_group.command(name="show")
@click.argument("federation")
@click.argument("version", type=VERSION, required=False)
@json_option
@config_option
def release_show(federation: str, version: int | None, as_json: bool, config_path: Path) -> None:
    """Show who took part in a release, and what they report.

    Without VERSION: the newest release.
    """
    store = with_model(load(config_path), federation)
    newest = store.releases.version(federation)
    found = store.releases.find(federation, newest if version is None else version)
    if found is None:
        raise ConfigError(f"federation {federation!r} has no release {version}; it has 1 to {newest}")
    row = found[0]
    whole = {
        **_listed(row),
        "hash": row.hash.hex(),
        "kept": found[1] is not None,
        "figures": row.figures,
        **row.details,
    }
    if as_json:
        click.echo(msgspec.json.encode(whole))
        return
    show([{k: v for k, v in whole.items() if not isinstance(v, dict)} | _serves(row)], False)
    if said := row.details.get("idle"):
        click.echo(f"no update from {idle_words(said)}")
    for title, table in (("node", row.details.get("nodes", {})), ("metric", row.details.get("evaluation", {}))):
        if table:
            click.echo()
            show([{title: name, **entry} for name, entry in table.items()], False)


@release_group.command(name="rollback")
@click.argument("federation")
@click.argument("version", type=VERSION)
@config_option
def release_rollback(federation: str, version: int, config_path: Path) -> None:
    """Publish the weights of an older release as the newest.

    The server may run. Open updates are dropped, and updates against the releases in between are refused: they improve
    on weights that are given up.
    """
    from ..federation.release_chain import ReleaseChain
    from ..store.audit import operator

    config = load(config_path)
    store = with_model(config, federation)
    [model] = [m for m in store.models() if m.federation == federation]
    chain = ReleaseChain(model, config.federation[federation], store, authority(config))
    row = chain.rollback(version, operator(), time.time())
    click.echo(f"{federation}: release {row.version} carries the weights of release {version}")


@release_group.command(name="pin")
@click.argument("federation")
@click.option("--reason", default="", help="For the audit log and the status.")
@config_option
def release_pin(federation: str, reason: str, config_path: Path) -> None:
    """Keep the newest release until `release unpin`.

    Updates are collected, but no round ends. To pin an older release, roll back to it first.
    """
    from ..store.audit import operator
    from ..store.releases import Pin

    store = with_model(load(config_path), federation)
    store.releases.set_pin(federation, Pin(time.time(), operator(), reason))
    click.echo(f"{federation}: pinned at release {store.releases.version(federation)}")


@release_group.command(name="unpin")
@click.argument("federation")
@config_option
def release_unpin(federation: str, config_path: Path) -> None:
    """Let rounds end again.

    A running server notices within half a minute.
    """
    from ..store.audit import operator

    store = with_model(load(config_path), federation)
    if not store.releases.clear_pin(federation, time.time(), operator()):
        raise ConfigError(f"federation {federation!r} is not pinned")
    click.echo(f"{federation}: rounds end again")


def _listed(row: ReleaseRow) -> dict[str, Any]:
    return {"release": row.version, "kind": row.kind, "created": row.created, "rule": row.rule}


def _figures(row: ReleaseRow, as_json: bool) -> dict[str, float]:
    """The figures of a release, but for what its rule says of each.

    Its samples are those of the site in the middle, from what nodes sent: the figure of older releases is a sum.
    """
    figures = {name: value for name, value in row.figures.items() if name not in (DRIFT_SHARE, "samples")}
    sent = [node["samples"] for node in row.details.get("nodes", {}).values() if node["share"]]
    if "samples" in row.figures and sent:
        figures["samples" if as_json else MIDDLE_SAMPLES] = float(median(sent))
    return figures


def _sites(row: ReleaseRow, as_json: bool) -> dict[str, Any]:
    """What sites report: all as JSON; for people, the worst site by the loss of the base release, and what decides."""
    evaluation, idle = row.details.get("evaluation", {}), row.details.get("idle", {})
    if as_json:
        serves = {"serves": row.details["serves"]} if _serves(row) else {}
        return ({"evaluation": evaluation} if evaluation else {}) | serves | ({"idle": idle} if idle else {})
    name = "base_loss" if "base_loss" in evaluation else next(iter(evaluation), None)
    worst = {"worst site": metric_line(name, evaluation[name])} if name else {}
    return worst | _serves(row) | ({"no update from": idle_words(idle)} if idle else {})


def _serves(row: ReleaseRow) -> dict[str, Any]:
    """At how many sites mostly the release decides, an older one, or mostly their own model, if any says so."""
    told = row.details.get("serves", {})
    said = any(count for name, count in told.items() if name != "not said")
    return {"decides at sites": told} if said else {}
