"""A table of the configuration to the source or output that its `type` names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from fedge_models.errors import ConfigError
from fedge_models.system import settings

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
    type_, key = str(table.get("type")), f"{kind}.{name}"
    if type_ not in registry:
        near = difflib.get_close_matches(type_, registry, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of: {', '.join(sorted(registry))}"
        raise ConfigError(f"{where}: key '{key}.type': no {kind} type {type_!r}; {hint}")
    class_ = load_class(registry[type_])
    config = settings.convert({k: v for k, v in table.items() if k != "type"}, class_.Config, where, key)
    return class_(name, config, state) if getattr(class_, "KEEPS_STATE", False) else class_(name, config)
