# SPDX-License-Identifier: Apache-2.0
"""What the commands share: options, the state folder, and names that are checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from fedge_models.errors import ConfigError
from fedge_models.system import files
from fedge_models.system.choices import hint

from ..config.schema import ADDRESS_FILE, Config

if TYPE_CHECKING:
    from ..authority import Authority
    from ..store.store import Store

NO_MODEL = "no federation has a model yet; add one: fedge-aggregator model add FEDERATION FILE.onnx"

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, readable=False),  # `load` says more about a file that cannot be read
    default=Path("/etc/fedge/aggregator.toml"),
    show_default=True,
    help="The configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def open_store(config: Config) -> Store:
    """Open the database in the state folder, also while the server runs; it is closed when the command ends."""
    from ..store.store import Store

    files.make_folder(config.aggregator.state)
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


def check_federation(config: Config, federation: str) -> None:
    """Raise ConfigError, naming those there are, unless the federation is configured."""
    if federation not in config.federation:
        raise ConfigError(f"no federation {federation!r} in the configuration; {hint(federation, config.federation)}")


def check_node(store: Store, node: str) -> None:
    """Raise ConfigError, naming those there are, unless the node is enrolled."""
    names = [n.name for n in store.nodes()]
    if node not in names:
        raise ConfigError(f"no node {node!r}; {hint(node, names, none='none has joined yet')}")


def with_entries(config: Config, federation: str | None) -> Store:
    """The store, for a federation that is configured or has a model from when it was; None: for all."""
    store = open_store(config)
    if federation is not None and federation not in {m.federation for m in store.models()}:
        check_federation(config, federation)
    return store


def with_model(config: Config, federation: str) -> Store:
    """The store, for a federation that is configured and has a model. Raises ConfigError."""
    check_federation(config, federation)
    store = open_store(config)
    if not store.releases.version(federation):
        raise ConfigError(
            f"federation {federation!r} has no model yet; add one: fedge-aggregator model add {federation} FILE.onnx"
        )
    return store
