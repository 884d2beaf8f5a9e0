# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent status`: the status page of the running agent, for people and for scripts."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec
from fedge_models.errors import UnreachableError
from fedge_models.system import service

from ..health import PROGRAM, STATUS_FILE
from .options import EXIT_PROBLEM, config_option, json_option, load_config
from .status_lines import lines


@click.command()
@json_option
@config_option
def status(as_json: bool, config_path: Path) -> None:
    """Show how the running agent is.

    The machines come first. Exits with 2 when anything is a PROBLEM, such as a machine that decides no more, and with 1
    when no agent answers.
    """
    agent = load_config(config_path).agent
    data = service.ask(agent.state / STATUS_FILE, PROGRAM, configured=agent.status)
    try:
        found = lines(msgspec.json.decode(data), config_path)
    except msgspec.DecodeError as e:
        raise UnreachableError(f"{PROGRAM} gave an answer that is no JSON: {e}") from e
    click.echo(data if as_json else "\n".join(map(str, found)))
    sys.exit(EXIT_PROBLEM if any(line.problems for line in found) else 0)
