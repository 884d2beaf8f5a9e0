# SPDX-License-Identifier: Apache-2.0
"""The commands for an OPC UA server: `trust` its certificate, `browse` what it (or a file) has."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.system.addresses import shown
from fedge_models.system.text import printable

from .files import browse_file, file_of
from .options import config_option, json_option, load_config

if TYPE_CHECKING:
    from ..protocols.opcua.connection import Connector

T = TypeVar("T")


def _timeout(seconds: float) -> Callable[[Any], Any]:
    """The option for how long a command waits for the server."""
    text = "Seconds for the whole command."
    return click.option(
        "--timeout", type=click.FloatRange(min=0, min_open=True), default=seconds, show_default=True, help=text
    )


@click.command()
@click.argument("name", metavar="SOURCE")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--fingerprint", help="Trust only a certificate with this SHA-256, and do not ask.")
@_timeout(15)
@config_option
def trust(name: str, yes: bool, fingerprint: str | None, timeout: float, config_path: Path) -> None:
    """Trust the certificate of an OPC UA server.

    SOURCE is a configured source or output; its server is asked for its certificate now.
    """
    from ..protocols.opcua import security

    connector = _configured(name, config_path)
    der = _shown(connector, timeout)
    click.echo(f"{connector.config.url} shows:")
    for key, value in security.describe(der).items():
        click.echo(f"  {key:8} {printable(value)}")
    pinned = security.pin_file(connector.trusted, name)
    if pinned.exists() and security.read(pinned) == der:
        click.echo(f"it is trusted already: {pinned}")
    else:
        if pinned.exists():
            click.echo(f"UNTIL NOW ANOTHER WAS TRUSTED: SHA-256 {security.fingerprint(security.read(pinned))}")
        _agree(security.fingerprint(der), fingerprint, yes)
        click.echo(f"trusted from now on: {security.pin(connector.trusted, name, der)}")
    if connector.config.security != "None":
        click.echo(f"the server has to trust ours: {connector.own()}")


@click.command()
@click.argument("target", metavar="URL|SOURCE|FILE")
@click.option("--under", default="", help="Begin at this node (a tag) instead of Objects.")
@click.option("--depth", type=click.IntRange(1, 64), default=5, show_default=True, help="Levels below it.")
@click.option("--config-lines", is_flag=True, help="Print lines for [asset.X] instead.")
@_timeout(60)
@json_option
@config_option
def browse(
    target: str, under: str, depth: int, config_lines: bool, timeout: float, as_json: bool, config_path: Path
) -> None:
    """Show what a server or a file has, and write lines for it.

    An OPC UA server is that of a URL (opc.tcp://...) or of a configured source or output. A file is a path: its form is
    guessed from its first rows, shown as a table, and written as configuration lines.
    """
    if (path := file_of(target, config_path)) is not None:
        browse_file(path, target, config_lines, as_json)
        return
    from ..protocols.opcua import tree
    from ..protocols.opcua.connection import ConnectionConfig, Connector

    plain = target.startswith("opc.tcp://")
    if "://" in target and not plain:
        raise ConfigError(f"{shown(target)}: expected opc.tcp://host:port, a file, or the name of a configured source")
    if plain and "@" in target:
        raise ConfigError(
            f"{shown(target)}: the address holds a name or password; browse a configured source that has username and "
            "password_file instead"
        )
    connector = Connector("plc", ConnectionConfig(target), None) if plain else _configured(target, config_path)
    more = "more time, fewer levels (--depth) or another node (--under)"
    leaves = _within(_browse(connector, under, depth), timeout, connector.config.url, more)
    if as_json:
        click.echo(msgspec.json.encode([_row(leaf) for leaf in leaves]))
        return
    if config_lines:
        for line in tree.lines(leaves, connector.name):
            click.echo(line)
        return
    for leaf in leaves:
        name = "  " * (len(leaf.path) - 1) + leaf.path[-1]
        held = f"  {leaf.type:12} {leaf.text}" if leaf.variable else ""
        click.echo(printable(f"{name:32} {leaf.node:32}{held}".rstrip()))
    if not leaves:
        click.echo(f"nothing below {under or 'Objects'}; try another node (--under) or more levels (--depth)")


def _row(leaf: Any) -> dict[str, Any]:
    return {"path": leaf.path, "node": leaf.node, "variable": leaf.variable, "type": leaf.type, "value": leaf.text}


async def _browse(connector: Connector, under: str, depth: int) -> list[Any]:
    from asyncua import ua

    from ..protocols.opcua import browsing, calls, tree
    from ..protocols.opcua.tags import parse

    async with connector.open() as link:
        limit, start = await calls.limits(link.client), ua.NodeId(ua.ObjectIds.ObjectsFolder)
        if under:
            start = (await browsing.Browser(link.client, limit).resolve([parse(under)]))[under]
            if isinstance(start, str):
                raise ConfigError(printable(f"{connector.config.url}: {start}"))
        await calls.load_types(link.client, limit)
        return await tree.tree(link.client, limit, start, depth)


def _configured(name: str, config_path: Path) -> Connector:
    """The connector of a source or output. Raises ConfigError."""
    from ..outputs import registry as outputs
    from ..sources import registry as sources

    config = load_config(config_path)
    for tables, build in ((config.source, sources.build), (config.output, outputs.build)):
        if name in tables:
            connector = getattr(build(name, tables[name], str(config_path), config.agent.state), "connector", None)
            if connector is None:
                raise ConfigError(
                    f"{config_path}: {name} is of type {tables[name]['type']!r}, which has no OPC UA server"
                )
            return connector
    known = [n for t in (config.source, config.output) for n, entry in t.items() if entry["type"] == "opcua"]
    raise ConfigError(f"{config_path}: {name!r} is no OPC UA source; there is: {', '.join(known) or 'none'}")


def _within(work: Coroutine[Any, Any, T], seconds: float, url: str, more: str) -> T:
    """Run a coroutine. Raises UnreachableError when it takes longer; `more`: what may help besides."""
    import asyncio

    from ..protocols.opcua.connection import bounded

    try:
        return asyncio.run(bounded(work, seconds))
    except asyncio.TimeoutError as e:
        raise UnreachableError(f"{url}: not done within {seconds:g} s (--timeout); it needs {more}") from e


def _shown(connector: Connector, timeout: float) -> bytes:
    """The certificate that the server shows, DER. Raises ConfigError for one without."""
    from ..protocols.opcua import security

    offered = _within(connector.endpoints(), timeout, connector.config.url, "more time, or a server that answers")
    chosen = connector.endpoint(offered) if connector.config.security != "None" else None
    for endpoint in [chosen] if chosen else offered:
        if chain := security.split_chain(endpoint.ServerCertificate or b""):
            return chain[0]
    raise ConfigError(f"{connector.config.url}: the server shows no certificate; it offers no security")


def _agree(shown: str, wanted: str | None, yes: bool) -> None:
    """Raise ConfigError unless the certificate has the wanted fingerprint, or a person agrees."""
    if wanted is not None:
        if _digits(shown) != _digits(wanted):
            raise ConfigError(f"not trusted: the server shows SHA-256 {shown}, and {wanted} was expected")
    elif not yes and not click.confirm("Does the server itself show this SHA-256? Trust it?"):
        raise ConfigError("not trusted; nothing was changed")


def _digits(fingerprint: str) -> str:
    """Its hex digits, however it was copied: with colons, spaces, small letters, "sha256:" in front."""
    return re.sub(r"[^0-9a-f]", "", re.sub(r"^sha-?256", "", fingerprint.strip().lower()))
