# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that several commands share, each defined once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from fedge_models.errors import FedgeError, StorageError
from fedge_models.system import files, service, settings
from fedge_models.system.text import printable

from ..config import schema
from ..config.schema import Config
from ..health import PROGRAM, STATUS_FILE

T = TypeVar("T")
EXIT_PROBLEM = 2  # something needs a person

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),  # looked at by `load_config`, whose errors say more than click's
    default=Path("/etc/fedge/agent.toml"),
    show_default=True,
    help="The configuration.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def load_config(path: Path) -> Config:
    """The checked configuration. Raises ConfigError, which says how to write one when there is none."""
    settings.require(path, "fedge-agent")
    return schema.load(path)


class _OnState(click.Command):
    """On the state folder: a file that cannot be read or written is one line on stderr and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        logging.getLogger("fedge_models").addHandler(logging.NullHandler())  # or the line would be there twice
        try:
            return super().invoke(ctx)
        except StorageError as e:
            reason = str(e)
        except OSError as e:
            if not isinstance(e.filename, (str, Path)):
                raise
            reason = files.explain(e, Path(e.filename))
        click.echo(f"{PROGRAM}: {printable(reason)}", err=True)
        raise click.exceptions.Exit(EXIT_PROBLEM)


class StateCommand(_OnState):
    """A command on the state folder."""


class StateGroup(_OnState, click.Group):
    """Commands on the state folder."""


def ask(config: Config, page: str, type_: type[T]) -> T | None:
    """A page of the running agent, decoded; None while none runs or answers."""
    try:
        data = service.ask(config.agent.state / STATUS_FILE, PROGRAM, page, config.agent.status)
        return msgspec.json.decode(data, type=type_)
    except (FedgeError, msgspec.MsgspecError):
        return None
