"""A table of the configuration that names its kind, as the thing itself: ``{name = "dirichlet", alpha = 0.3}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from fedge_models.errors import ConfigError
from fedge_models.system import settings

T = TypeVar("T")


def build(table: Mapping[str, Any], kinds: Mapping[str, type[T]], where: str, key: str) -> T:
    """The kind that the table names, with its parameters. Raises ConfigError for an unknown name or parameter."""
    name = str(table.get("name"))
    if name not in kinds:
        raise ConfigError(f"{where}: key '{key}.name': no {key} {name!r}; expected one of: {', '.join(sorted(kinds))}")
    return settings.convert({k: v for k, v in table.items() if k != "name"}, kinds[name], where, key)
