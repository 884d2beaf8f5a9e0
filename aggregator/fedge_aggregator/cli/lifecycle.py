"""Commands of a model's life: rounds, releases, the audit log, and how the running server is."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system import service
from fedge_models.system.settings import parse_seconds

from ..config.load import load
from ..config.schema import STATUS_FILE, Config
from .common import authority, config_option, json_option, known, show, store

if TYPE_CHECKING:
    from ..federation.release_chain import ReleaseChain
    from ..store.releases import ReleaseRow
    from ..store.store import Store


@click.command()
@click.option("--federation", default=None, help="Only this one.")
@json_option
@config_option
def rounds(federation: str | None, as_json: bool, config_path: Path) -> None:
    """List the rounds of each federation, what nodes report of them, and who is in the open one."""
    kept = _with_entries(load(config_path), federation)
    rows: list[dict[str, Any]] = []
    for model in kept.models():
        if federation in (None, model.federation):
            for row in kept.releases.listed(model.federation):
                rows.append({"federation": model.federation, **_listed(row), **row.figures, **_sites(row, as_json)})
            waiting = sorted(kept.updates.arrivals(model.federation))
            rows.append({"federation": model.federation, "release": "open", "created": None, "rule": "", "in": waiting})
    show(rows, as_json)


@click.group(name="release")
def release_group() -> None:
    """Versions of a model: what led to them, going back, reputation still."""


@release_group.command(name="list")
@click.argument("federation")
@json_option
@config_option
def release_list(federation: str, as_json: bool, config_path: Path) -> None:
    """List a federation's releases; `kept`: its weights are still here, to roll back to."""
    kept = _with_model(load(config_path), federation)
    weights, pin = kept.releases.with_weights(federation), kept.releases.pin(federation)
    rows = [{**_listed(row), "kept": row.version in weights} for row in kept.releases.listed(federation)]
    rows[-1]["pinned"] = pin is not None
    show(rows, as_json)


@release_group.command(name="show")
@click.argument("federation")
@click.argument("version", type=int, required=False)
@json_option
@config_option
def release_show(federation: str, version: int | None, as_json: bool, config_path: Path) -> None:
    """Show one release, the newest unless told otherwise: who took part, what they report, the worst site."""
    kept = _with_model(load(config_path), federation)
    found = kept.releases.find(federation, kept.releases.version(federation) if version is None else version)
    if found is None:
        raise ConfigError(f"federation {federation!r} has no release {version}; see: fedge-aggregator release list")
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
    show([{k: v for k, v in whole.items() if not isinstance(v, dict)}], False)
    for title, table in (("node", row.details.get("nodes", {})), ("metric", row.details.get("evaluation", {}))):
        if table:
            click.echo()
            show([{title: name, **entry} for name, entry in table.items()], False)


@release_group.command(name="rollback")
@click.argument("federation")
@click.argument("version", type=int)
@config_option
def release_rollback(federation: str, version: int, config_path: Path) -> None:
    """Publish the weights of an older release as the newest, beside a running server.

    Open updates are dropped, and those against the releases between are refused: they improve on what is given up.
    """
    from ..store.audit import operator

    row = _chain(load(config_path), federation).rollback(version, operator(), time.time())
    click.echo(f"{federation}: release {row.version} carries the weights of release {version}")


@release_group.command(name="pin")
@click.argument("federation")
@click.option("--reason", default="", help="For the log and the status.")
@config_option
def release_pin(federation: str, reason: str, config_path: Path) -> None:
    """Stand still: updates are collected, but no round ends until `release unpin`.

    To hold an older release, roll back to it first.
    """
    from ..store.audit import operator
    from ..store.releases import Pin

    kept = _with_model(load(config_path), federation)
    kept.releases.set_pin(federation, Pin(time.time(), operator(), reason))
    click.echo(f"{federation}: pinned at release {kept.releases.version(federation)}")


@release_group.command(name="unpin")
@click.argument("federation")
@config_option
def release_unpin(federation: str, config_path: Path) -> None:
    """Let rounds end again; a running server notices within half a minute."""
    from ..store.audit import operator

    kept = _with_model(load(config_path), federation)
    if not kept.releases.clear_pin(federation, time.time(), operator()):
        raise ConfigError(f"federation {federation!r} is not pinned")
    click.echo(f"{federation}: rounds end again")


@click.command()
@click.option("--since", default="1970-01-01", help='A duration ago ("24h", "7d") or a date ("2026-11-24T08:00").')
@click.option("--federation", default=None, help="Only this one.")
@click.option("--what", default=None, help="Only entries of a kind, e.g. refusal; any other word lists them.")
@json_option
@config_option
def audit(since: str, federation: str | None, what: str | None, as_json: bool, config_path: Path) -> None:
    """Print the audit log: joins, updates, refusals, rounds, releases and what operators did."""
    from ..store.audit import KINDS

    kept = _with_entries(load(config_path), federation)
    if what not in (None, *KINDS):
        raise ConfigError(f"--what {what}: no such kind of entry; expected one of: {', '.join(KINDS)}")
    show([row._asdict() for row in kept.audit.read(_moment(since, time.time()), federation, what)], as_json)


@click.command()
@json_option
@config_option
def status(as_json: bool, config_path: Path) -> None:
    """Show how the running server is, and what each federation waits for."""
    data = service.ask(load(config_path).aggregator.state / STATUS_FILE, "fedge-aggregator")
    if as_json:
        click.echo(data)
        return
    table = msgspec.json.decode(data)
    click.echo(f"listening on {table['address']}, up {time.time() - table['started']:.0f} s")
    for name, entry in table["federations"].items():
        click.echo(f"{name}: release {entry['release']}, {entry['mode']}, {entry['rule']}; {entry['waiting']}")
        for metric, told in entry["evaluation"].items():
            click.echo(f"  {_words(metric, told)}")


def _listed(row: ReleaseRow) -> dict[str, Any]:
    return {"release": row.version, "kind": row.kind, "created": row.created, "rule": row.rule}


def _sites(row: ReleaseRow, as_json: bool) -> dict[str, Any]:
    """What sites report: all of it, or for people the worst site by the base release's loss."""
    evaluation = row.details.get("evaluation", {})
    if as_json:
        return {"evaluation": evaluation} if evaluation else {}
    name = "base_loss" if "base_loss" in evaluation else next(iter(evaluation), None)
    return {"worst site": _words(name, evaluation[name])} if name else {}


def _words(metric: str, told: dict[str, Any]) -> str:
    return (
        f"{metric} {told['mean']:.4g} ± {told['spread']:.2g} over {told['nodes']} sites, "
        f"worst {told['worst']:.4g} at {told['worst_node']}"
    )


def _moment(text: str, now: float) -> float:
    """Unix time, s, of a duration ago or a local date. Raises ConfigError."""
    try:
        return now - parse_seconds(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as e:
        raise ConfigError(
            f'--since: expected a duration such as "24h" or a date such as "2026-11-24", got {text!r}'
        ) from e


def _with_entries(config: Config, federation: str | None) -> Store:
    """The store; `federation` is one of the configuration, or has a model from when it was."""
    kept = store(config)
    if federation is not None and federation not in {m.federation for m in kept.models()}:
        known(config, federation)
    return kept


def _with_model(config: Config, federation: str) -> Store:
    known(config, federation)
    kept = store(config)
    if not kept.releases.version(federation):
        raise ConfigError(f"federation {federation!r} has no model yet; see: fedge-aggregator model add")
    return kept


def _chain(config: Config, federation: str) -> ReleaseChain:
    from ..federation.release_chain import ReleaseChain

    kept = _with_model(config, federation)
    [model] = [m for m in kept.models() if m.federation == federation]
    return ReleaseChain(model, config.federation[federation], kept, authority(config))
