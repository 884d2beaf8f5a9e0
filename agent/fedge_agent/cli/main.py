# SPDX-License-Identifier: Apache-2.0
"""The command line of the agent: set up, check, join, run. Other commands have files of their own."""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click
import msgspec
from fedge_models import __version__
from fedge_models.system import files, lock, malloc, settings
from fedge_models.system import unit as units
from fedge_models.system.command_line import Group
from fedge_models.system.text import printable

from ..health import PROGRAM
from . import compare, event, label, model, opcua, order, question, recorded, status
from .options import config_option, json_option, load_config


@click.group(cls=Group, program=PROGRAM)
@click.version_option(__version__)
def main() -> None:
    """Read machines, decide, learn, and share only signed updates."""


TRAINING = (model.model_group, recorded.train, recorded.evaluate)
OPERATING = (
    label.label,
    question.question_group,
    event.event_group,
    order.order_group,
    status.status,
    compare.compare,
)
for command in (*TRAINING, opcua.trust, opcua.browse, *OPERATING):
    main.add_command(command)


@main.command()
@config_option
def init(config_path: Path) -> None:
    """Write a commented configuration."""
    settings.write_example(config_path, "fedge_agent", "agent.example.toml")
    click.echo(f"{config_path}: written. Fill it in, then: fedge-agent check --config {config_path}")


@main.command()
@config_option
def unit(config_path: Path) -> None:
    """Print the systemd unit of this installation.

    Its ExecStart is the program that prints it, with this configuration. Write it to
    /etc/systemd/system/fedge-agent.service.
    """
    click.echo(units.unit("fedge_agent", "fedge-agent", config_path), nl=False)
    for line in units.warnings(config_path):
        click.echo(f"warning: {line}", err=True)


@main.command()
@json_option
@config_option
def check(as_json: bool, config_path: Path) -> None:
    """Check the configuration and try each connection.

    Nothing is changed anywhere. Exits with 1 when something would keep the agent from deciding.
    """
    from .check import check_all

    found = []
    for what, problems in check_all(load_config(config_path), str(config_path)):
        found.append({"what": what, "problems": problems})
        if not as_json:
            click.echo(f"{'FAIL' if problems else 'ok  '} {what}")
            for problem in problems:
                click.echo(f"     {printable(problem)}")
    if as_json:
        click.echo(msgspec.json.encode(found))
    sys.exit(1 if any(entry["problems"] for entry in found) else 0)


@main.command()
@click.argument("invitation")
@config_option
def join(invitation: str, config_path: Path) -> None:
    """Enrol this gateway at an aggregator.

    INVITATION is the line that `fedge-aggregator invite` printed.
    """
    from fedge_models.messages.invitation import decode_invitation

    from ..federation import identity

    config = load_config(config_path)
    files.make_folder(config.agent.state)
    joined = identity.join(decode_invitation(invitation), config.agent.state)
    click.echo(f"joined {joined.url} as {joined.node}, for: {', '.join(joined.federations)}")
    for name in set(config.model) - set(joined.federations):
        click.echo(f"warning: [model.{name}] is not among them; it is served and trained here alone", err=True)
    with suppress(PermissionError):
        if lock.holder(config.agent.state) is not None:
            click.echo("the agent that runs here takes part once it is started again")


@main.command()
@config_option
@click.option("--once", "--dry-run", "once", is_flag=True, help="Show what comes of the sources for a while, and end.")
@click.option(
    "--for", "seconds", type=click.FloatRange(min=1), help="With --once: how long, s; default: a window each."
)
def start(config_path: Path, once: bool, seconds: float | None) -> None:
    """Run until SIGTERM or Ctrl-C.

    With --once (or --dry-run), readings, windows, features and decisions of the real sources are printed for a while.
    Nothing is sent or stored, and an agent that runs is not disturbed. Exits with 1 if an asset gave no window.
    """
    malloc.return_large_blocks()
    from ..app import App

    config = load_config(config_path)
    if once:
        from .dry_run import run

        sys.exit(run(config, config_path, seconds))
    logging.basicConfig(level=config.agent.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = App(config, config_path)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: app.stop())
    app.run()
