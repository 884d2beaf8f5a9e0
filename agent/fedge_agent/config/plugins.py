# SPDX-License-Identifier: Apache-2.0
"""Build the source or output that a table of the configuration names by its `type`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from fedge_models.system import kinds, settings

from ..types import Table


def load_class(path: str) -> Any:
    """The class at "module:Class"."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def build(
    registry: Mapping[str, str], kind: str, name: str, table: Table, where: str, state: Path | None = None
) -> Any:
    """An instance ``Class(name, Config)``; the class says its own ``Config``. Raises ConfigError.

    A class with ``KEEPS_STATE`` gets the agent's state folder too, to keep what is its own there.
    """
    key = f"{kind}.{name}"
    path, parameters = kinds.choose(table, registry, where, key, "type", f"{kind} type")
    class_ = load_class(path)
    config = settings.convert(parameters, class_.Config, where, key)
    return class_(name, config, state) if class_.KEEPS_STATE else class_(name, config)
