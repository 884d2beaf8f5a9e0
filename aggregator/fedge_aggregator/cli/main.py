"""The command line of the aggregator. Reading commands take --json; all work beside a running server."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from fedge_models import __version__
from fedge_models.errors import ConfigError, FedgeError
from fedge_models.system import files, malloc
from fedge_models.system import unit as units
from fedge_models.system.settings import parse_seconds

from ..config.load import load
from ..config.schema import Config
from . import lifecycle
from .common import authority, config_option, json_option, known, show, store, url

if TYPE_CHECKING:
    from ..store.store import Store

LARGE_BYTES = 4 << 20  # columns that rules work on are 1 to 2 MiB, and used again at once


class _Group(click.Group):
    """Errors of ours are one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FedgeError as e:
            click.echo(f"fedge-aggregator: {e}", err=True)
            sys.exit(1)


@click.group(cls=_Group)
@click.version_option(__version__)
def main() -> None:
    """Average what gateways learn, and sign the result."""


for command in (lifecycle.rounds, lifecycle.release_group, lifecycle.audit, lifecycle.status):
    main.add_command(command)


@main.command()
@config_option
def init(config_path: Path) -> None:
    """Write a commented configuration."""
    if config_path.exists():
        raise ConfigError(f"{config_path}: exists already; it is left alone")
    config_path.parent.mkdir(parents=True, exist_ok=True)
    files.write(config_path, resources.files("fedge_aggregator").joinpath("aggregator.example.toml").read_bytes())
    click.echo(f"{config_path}: written. Set addresses and federations, then: fedge-aggregator start")


@main.command()
@config_option
def unit(config_path: Path) -> None:
    """Print the systemd unit of this installation.

    Its ExecStart is the program that prints it, with this configuration. Write it to
    /etc/systemd/system/fedge-aggregator.service.
    """
    click.echo(units.unit("fedge_aggregator", "fedge-aggregator", config_path), nl=False)
    for line in units.warnings(config_path):
        click.echo(f"warning: {line}", err=True)


@main.command()
@config_option
def start(config_path: Path) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from ..app import App

    config = load(config_path)
    logging.basicConfig(
        level=config.aggregator.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    malloc.return_large_blocks(LARGE_BYTES)
    app = App(config)
    app.start()
    click.echo(f"fedge-aggregator: listening on {app.address}")
    stop.wait()
    app.stop()


@main.command()
@click.argument("node")
@click.option("--federation", "federations", multiple=True, required=True, help="May be given several times.")
@click.option("--expires", default="24h", show_default=True, help="How long the invitation is good for.")
@config_option
def invite(node: str, federations: tuple[str, ...], expires: str, config_path: Path) -> None:
    """Print an invitation for one gateway, to paste into `fedge-agent join`."""
    from ..gateway_api import enrolment

    config = load(config_path)
    for name in federations:
        known(config, name)
    try:
        lifetime = parse_seconds(expires)
    except ValueError as e:
        raise ConfigError(f"--expires: {e}") from e
    now = time.time()
    text = enrolment.invite(store(config), authority(config), url(config), node, federations, int(now + lifetime), now)
    click.echo(text)


@main.group(name="nodes")
def nodes_group() -> None:
    """Enrolled gateways."""


@nodes_group.command(name="list")
@json_option
@config_option
def nodes_list(as_json: bool, config_path: Path) -> None:
    """List gateways."""
    config = load(config_path)
    kept, said = store(config), []
    rows = []
    for n in kept.nodes():
        trust, lines = _trust(kept, config, n.name)
        said += lines
        row = {"name": n.name, "federations": kept.federations_of(n.name), "trust": trust}
        rows.append({**row, "joined": n.joined, "seen": n.seen, "revoked": n.revoked})
    show(rows, as_json)
    if not as_json:
        click.echo("\n".join(said))


def _trust(kept: Store, config: Config, node: str) -> tuple[dict[str, float], list[str]]:
    """A node's score in each federation, and what there is to say of it."""
    from ..rounds.trust.assessment import explain

    scores, lines = {}, []
    for name in kept.federations_of(node):
        reputation = kept.round_states.reputations(name).get(node)
        if reputation is not None and name in config.federation:
            limits = config.federation[name].trust
            scores[name] = round(reputation.score(limits), 3)
            lines += [f"{name}: {line}" for line in explain(node, reputation, limits, time.time())]
    return scores, lines


@nodes_group.command(name="release")
@click.argument("node")
@click.option("--federation", required=True)
@config_option
def nodes_release(node: str, federation: str, config_path: Path) -> None:
    """Let a gateway out of quarantine; it is on probation then."""
    from ..rounds.trust.reputation import leave_quarantine
    from ..store.audit import operator

    config = load(config_path)
    known(config, federation)
    kept = store(config)
    with kept.transaction():
        reputation = kept.round_states.reputations(federation).get(node)
        if reputation is None or not reputation.quarantined:
            raise ConfigError(f"node {node!r} is not in quarantine in {federation}; see: fedge-aggregator nodes list")
        kept.round_states.set_reputation(
            federation, node, leave_quarantine(reputation, config.federation[federation].trust)
        )
        kept.audit.add(time.time(), "trust", f"let out of quarantine by {operator()}", federation, node)
    click.echo(f"{node}: out of quarantine in {federation}, on probation")


@nodes_group.command(name="revoke")
@click.argument("node")
@config_option
def nodes_revoke(node: str, config_path: Path) -> None:
    """Take a gateway's right away, at once and for good."""
    if not store(load(config_path)).revoke(node, time.time()):
        raise ConfigError(f"no node {node!r}; see: fedge-aggregator nodes list")
    click.echo(f"{node}: revoked")


@main.group(name="model")
def model_group() -> None:
    """Model files."""


@model_group.command(name="add")
@click.argument("federation")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--card",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with the model card, for a file that has none (docs/reference/model-card.md).",
)
@click.option("--trainable", help="Globs over initializer names, comma-separated; the rest is frozen (the card's).")
@config_option
def model_add(federation: str, file: Path, card: Path | None, trainable: str | None, config_path: Path) -> None:
    """Give a federation its ONNX file; its weights become release 1."""
    from ..federation.add_model import add_model

    config = load(config_path)
    known(config, federation)
    ends = (store(config), authority(config))
    graph = add_model(*ends, federation, config.federation[federation], file, time.time(), card, trainable)
    click.echo(f"{federation}: {graph.card.task} model of {graph.params.size} trainable parameters, release 1")


@model_group.command(name="list")
@json_option
@config_option
def model_list(as_json: bool, config_path: Path) -> None:
    """List federations and their models."""
    config = load(config_path)
    models = {m.federation: m for m in store(config).models()}
    rows = []
    for name in config.federation:
        model = models.get(name)
        rows.append(
            {
                "federation": name,
                "graph": model.graph.hex() if model else None,
                "parameters": int(model.sizes.sum()) if model else None,
                "tensors": len(model.sizes) if model else None,
            }
        )
    show(rows, as_json)
