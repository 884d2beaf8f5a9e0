"""What the commands share: options, the state folder, tables."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from fedge_models.errors import ConfigError

from ..config.schema import ADDRESS_FILE, Config

if TYPE_CHECKING:
    from ..authority import Authority
    from ..store.store import Store

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    default=Path("/etc/fedge/aggregator.toml"),
    show_default=True,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def store(config: Config) -> Store:
    """The database in the state folder, beside a server that may run; it is closed when the command ends."""
    from ..store.store import Store

    config.aggregator.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = Store(config.aggregator.state)
    click.get_current_context().call_on_close(made.close)
    return made


def authority(config: Config) -> Authority:
    """The keys in the state folder."""
    from ..authority import Authority

    return Authority(config.aggregator.state / "authority")


def url(config: Config) -> str:
    """The address that goes into invitations."""
    listen, bound = config.aggregator.listen, config.aggregator.state / ADDRESS_FILE
    port = listen.rpartition(":")[2]
    if port == "0":
        if not bound.exists():
            raise ConfigError("aggregator.listen has port 0 and the server has not run yet: start it first")
        port = bound.read_text().rpartition(":")[2]
    host = config.aggregator.addresses[0]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def known(config: Config, federation: str) -> None:
    """Raise ConfigError unless the federation is configured."""
    if federation not in config.federation:
        names = ", ".join(config.federation) or "none is configured"
        raise ConfigError(f"no federation {federation!r} in the configuration; there is: {names}")


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table, or as JSON."""
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([_cell(key, row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if key in ("created", "joined", "seen", "revoked", "time"):
        return datetime.fromtimestamp(value).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v:g}" for k, v in value.items()) or "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
