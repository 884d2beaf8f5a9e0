# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent order`: the events on their way to outputs, whether the agent runs or not.

What waits and what became of the newest events is read from the spool of the state folder, where a running agent looks
every few seconds; how often a waiting one was tried is asked of the agent's page. While the spool cannot be written,
all of it is asked there.
"""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system import lock

from ..config.schema import Config, refer
from ..durable.event_desk import Desk, Held, Order, named_by
from ..durable.event_queue import SPOOL_FILE, Outcome
from ..figures import of_event
from ..health import PROGRAM
from ..outputs.registry import build
from . import order_words
from .options import EXIT_PROBLEM, StateGroup, ask, config_option, json_option, load_config

output_option = click.option("--output", help="Only those of this output.")
which_argument = click.argument("which", nargs=-1)


@click.group("order", cls=StateGroup)
def order_group() -> None:
    """Look after events on their way to outputs."""


@order_group.command("list")
@output_option
@click.option("--asset", help="Only those of this machine.")
@click.option("--recent", default=20, show_default=True, help="How many of those that are done.")
@json_option
@config_option
def list_(output: str | None, asset: str | None, recent: int, as_json: bool, config_path: Path) -> None:
    """List what waits, is set aside, and was delivered.

    Numbers are those that `order show`, `retry` and `drop` take.
    """
    config = load_config(config_path)
    _known(config, output, asset)
    tried, held = _tried(config), ask(config, "/held-orders", Held | None)  # type: ignore[arg-type]
    parts = order_words.parts(_orders(config, held, output, asset), recent)
    if as_json:
        found = {name: [_plain(o, tried) for o in part] for name, part in parts.items()}
        click.echo(msgspec.json.encode(found))
    else:
        for line in order_words.listing(parts, tried, time.time(), str(config_path)):
            click.echo(line)
    if held is not None:
        click.echo(order_words.of_memory(held, PROGRAM), err=True)
        sys.exit(EXIT_PROBLEM)


@order_group.command()
@click.argument("which")
@json_option
@config_option
def show(which: str, as_json: bool, config_path: Path) -> None:
    """Show an order: its request, the answers, the error.

    WHICH is a number of `order list`, or the key of an event. Secrets are not shown.
    """
    config = load_config(config_path)
    tried, held = _tried(config), ask(config, "/held-orders", Held | None)  # type: ignore[arg-type]
    orders = _find(config, held, which)
    found = [{**_plain(o, tried), "request": _request(config, o, str(config_path))} for o in orders]
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for order, entry in zip(orders, found, strict=True):
        for line in order_words.details(order, tried.get(order.id), entry["request"], time.time()):
            click.echo(line)


@order_group.command()
@which_argument
@click.option("--all", "all_", is_flag=True, help="All that are set aside.")
@output_option
@config_option
def retry(which: tuple[str, ...], all_: bool, output: str | None, config_path: Path) -> None:
    """Send orders again that were set aside.

    WHICH are numbers of `order list`, or keys of events. Each goes before later events of its machine.
    """
    config = load_config(config_path)
    _known(config, output, None)
    with _desk(config, changes=True) as desk:
        orders = desk.orders(output) if all_ else _chosen(desk, which, "order retry 17, or --all")
        chosen = [o for o in orders if o.outcome == Outcome.SET_ASIDE]
        _refuse_others(orders if not all_ else [], chosen, "only what is set aside can be sent again")
        for order in chosen:
            desk.retry(order.id)
            click.echo(f"{order_words.named(order)}: waits again")
    if not chosen:
        click.echo("nothing is set aside; what waits is tried again by itself: fedge-agent order list")
    elif lock.holder(config.agent.state) is None:
        click.echo(f"{PROGRAM} is not running; it sends them when it starts")
    else:
        click.echo(f"{PROGRAM} sends them within seconds; look at: fedge-agent order list")


@order_group.command()
@which_argument
@click.option("--reason", required=True, help="Why it is not to be sent; kept with it.")
@config_option
def drop(which: tuple[str, ...], reason: str, config_path: Path) -> None:
    """Never send these orders; keep the reason.

    WHICH are numbers of `order list`, or keys of events: orders that wait or are set aside. They stay in the list.
    """
    if not reason.strip():
        raise ConfigError("--reason is empty: expected why the order is not to be sent")
    config = load_config(config_path)
    with _desk(config, changes=True) as desk:
        orders = _chosen(desk, which, "order drop 17 --reason TEXT")
        chosen = [o for o in orders if o.outcome in (Outcome.WAITING, Outcome.SET_ASIDE, Outcome.HELD)]
        _refuse_others(orders, chosen, "only what waits or is set aside can be dropped")
        for order in chosen:
            desk.drop(order.id, f"{_user()}: {reason.strip()}")
            click.echo(f"{order_words.named(order)}: dropped")


def _find(config: Config, held: Held | None, which: str) -> list[Order]:
    """The event with this number, or those with this key. Raises ConfigError when there is none."""
    if held is None:
        with _desk(config) as desk:
            return desk.find(which)
    return named_by(which, held.orders())


def _desk(config: Config, changes: bool = False) -> Desk:
    return Desk(config.agent.state / SPOOL_FILE, changes)


def _known(config: Config, output: str | None, asset: str | None) -> None:
    """Refuse a name that is not in the configuration. Raises ConfigError."""
    if output is not None:
        refer(output, config.output, "output")
    if asset is not None:
        refer(asset, config.asset, "asset")


def _chosen(desk: Desk, which: Sequence[str], example: str) -> list[Order]:
    """The orders that a person named. Raises ConfigError when that is nothing."""
    if not which:
        raise ConfigError(f"no order is named: expected e.g. fedge-agent {example}; see: fedge-agent order list")
    found = {order.id: order for text in which for order in desk.find(text)}
    return list(found.values())


def _refuse_others(orders: Sequence[Order], chosen: Sequence[Order], why: str) -> None:
    """Raise ConfigError if something was named and nothing of it can be done."""
    if orders and not chosen:
        raise ConfigError("; ".join(f"{order_words.named(o)} is {o.name}" for o in orders) + f": {why}")


def _tried(config: Config) -> dict[int, dict[str, Any]]:
    """Number -> how often the running agent tried an event, and the answers; empty when it is not running."""
    found = ask(config, "/orders", dict[str, list[dict[str, Any]]]) or {}
    return {entry["id"]: entry for entries in found.values() for entry in entries}


def _orders(config: Config, held: Held | None, output: str | None, asset: str | None) -> list[Order]:
    """Every event that is still known, from the running agent while its file cannot be written."""
    if held is None:
        with _desk(config) as desk:
            return desk.orders(output, asset)
    return [o for o in held.orders() if output in (None, o.output) and asset in (None, o.asset)]


def _plain(order: Order, tried: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """An order as plain data."""
    live = tried.get(order.id, {})
    event = msgspec.to_builtins(order.event)
    return {
        **{**order._asdict(), "outcome": order.name, "event": event},
        "tries": live.get("tries", 0),
        "next_s": live.get("next_s"),
        "answers": live.get("answers") or order.answers,
    }


def _request(config: Config, order: Order, where: str) -> dict[str, Any]:
    """What its output would send, without secrets; or why that cannot be shown."""
    if order.event is None:
        return {"error": "the stored event cannot be read"}
    if order.output not in config.output:
        return {"error": f"{where} has no [output.{order.output}] any more"}
    output = build(order.output, config.output[order.output], where, config.agent.state)
    return _guarded(lambda event=order.event: output.preview(event) or of_event(event), output.end)  # type: ignore[misc]


def _guarded(call: Callable[[], dict[str, Any]], end: Callable[[], None]) -> dict[str, Any]:
    """The answer of a plugin, or its error; the plugin is ended."""
    try:
        return call()
    except Exception as e:  # what keeps it from being sent, too
        return {"error": f"{type(e).__name__}: {e}"}
    finally:
        end()


def _user() -> str:
    """Who types this, for the record."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown user"
