# SPDX-License-Identifier: Apache-2.0
"""The command line of the aggregator: set it up, start it; other files hold the commands to operate it."""

from __future__ import annotations

import logging
import signal
import threading
from pathlib import Path

import click
from fedge_models import __version__
from fedge_models.system import malloc, settings
from fedge_models.system import unit as units
from fedge_models.system.command_line import Group

from ..config.load import load
from .common import config_option
from .model import model_group
from .nodes import invite, nodes_group
from .release import release_group, rounds
from .statistics import statistics
from .watch import audit, status

PROGRAM = "fedge-aggregator"
LARGE_BYTES = 4 << 20  # columns that rules work on are 1 to 2 MiB, and used again at once


@click.group(cls=Group, program=PROGRAM)
@click.version_option(__version__)
def main() -> None:
    """Average what gateways learn, and sign the result."""


for command in (model_group, invite, nodes_group, rounds, release_group, status, statistics, audit):
    main.add_command(command)


@main.command()
@config_option
def init(config_path: Path) -> None:
    """Write a commented configuration."""
    settings.write_example(config_path, "fedge_aggregator", "aggregator.example.toml")
    click.echo(
        f"{config_path}: written. Set addresses and federations, then: fedge-aggregator start --config {config_path}"
    )


@main.command()
@config_option
def unit(config_path: Path) -> None:
    """Print the systemd unit of this installation.

    Its ExecStart is the program that prints it, with this configuration. Write it to
    /etc/systemd/system/fedge-aggregator.service.
    """
    click.echo(units.unit("fedge_aggregator", PROGRAM, config_path), nl=False)
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
    malloc.return_large_blocks(LARGE_BYTES)
    app, stop = App(config), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    app.start()
    click.echo(f"{PROGRAM}: listening on {app.address}")
    stop.wait()
    app.stop()
