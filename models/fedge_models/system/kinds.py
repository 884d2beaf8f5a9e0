# SPDX-License-Identifier: Apache-2.0
"""A table of the configuration that names its kind: ``{name = "trimmed_mean", byzantine = 0.3}``.

Promises that an unknown kind or parameter is refused with file, key and what is valid: a mistyped protection must not
mean "no protection". Which kinds there are is left to the registries.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import ConfigError
from . import settings
from .choices import hint

T = TypeVar("T")


def build(table: Mapping[str, Any], kinds: Mapping[str, type[T]], where: str, key: str) -> T:
    """The struct that the table's `name` stands for, with the rest of the table as its fields.

    where: the file that messages name; key: the table's dotted key in it. Raises ConfigError.
    """
    kind, parameters = choose(table, kinds, where, key, "name", key.rpartition(".")[2])
    return settings.convert(parameters, kind, where, key)


def choose(
    table: Mapping[str, Any], kinds: Mapping[str, T], where: str, key: str, tag: str, what: str
) -> tuple[T, dict[str, Any]]:
    """The kind that the table names under `tag`, and the rest of the table.

    what: a kind in words, for messages ("rule", "source type"). Raises ConfigError for a kind that does not exist.
    """
    name = table.get(tag)
    if not isinstance(name, str) or name not in kinds:
        raise ConfigError(f"{where}: key '{key}.{tag}': no {what} {name!r}; {hint(name, kinds)}")
    return kinds[name], {k: v for k, v in table.items() if k != tag}
