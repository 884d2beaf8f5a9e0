# SPDX-License-Identifier: Apache-2.0
"""Options and arguments that several commands share, each defined once."""

from __future__ import annotations

from pathlib import Path

import click
from fedge_models.system import settings

from ..config import schema
from ..config.schema import Config

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
