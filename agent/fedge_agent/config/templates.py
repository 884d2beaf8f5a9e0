# SPDX-License-Identifier: Apache-2.0
"""Fill in templates: twenty equal machines are one `[template.X]` and a line each. Pure: tables in, tables out.

An asset that names a template is that template with `{name}` and its own `vars` filled in, and with its own keys on
top, table by table. Errors name asset, template and key. What the keys mean is left to `schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedge_models.errors import ConfigError
from fedge_models.system.choices import hint, near_names

from ..placeholders import Placeholder, substitute
from ..types import Table

MAX_DEPTH = 16


def expand(asset: str, table: Table, templates: Mapping[str, Table]) -> Table:
    """The asset's table with its template's under it. Raises ConfigError."""
    wanted = table.get("template", "")
    if not wanted:
        return table
    if not isinstance(wanted, str) or not isinstance(templates.get(wanted), dict):
        near = hint(str(wanted), templates, none="none")
        raise ConfigError(f"key 'asset.{asset}.template': there is no [template.{wanted}]; {near}")
    values = {"name": asset, **_values(asset, table.get("vars", {}))}
    filled = _fill(templates[wanted], values, f"template.{wanted}", asset)
    assert isinstance(filled, dict)
    return merge(filled, table)


def merge(under: Table, over: Table) -> Table:
    """`over` on `under`: tables are merged, anything else is replaced."""
    both = {
        k: merge(under[k], v) if isinstance(v, dict) and isinstance(under.get(k), dict) else v for k, v in over.items()
    }
    return {**under, **both}


def _values(asset: str, given: Any) -> dict[str, str | int | float]:
    if not isinstance(given, dict):
        raise ConfigError(f"key 'asset.{asset}.vars': expected a table of texts and numbers, got {given!r}")
    for name, value in given.items():
        if name == "name" or isinstance(value, bool) or not isinstance(value, (str, int, float)):
            what = "it is the asset's own name" if name == "name" else f"expected a text or a number, got {value!r}"
            raise ConfigError(f"key 'asset.{asset}.vars.{name}': {what}")
    return given


def _fill(value: Any, values: Mapping[str, str | int | float], key: str, asset: str, depth: int = 0) -> Any:
    """A template's value with its placeholders filled in; a text that is one placeholder takes its value's type."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"key '{key}': tables inside tables, more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        return {k: _fill(v, values, f"{key}.{k}", asset, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill(v, values, f"{key}[{i}]", asset, depth + 1) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    return substitute(value, lambda p: _value(p, values, key, asset), write=str, doubled=True)


def _value(field: Placeholder, values: Mapping[str, str | int | float], key: str, asset: str) -> str | int | float:
    name = field.name
    if field.entry is not None:  # no variable is a table: these braces are part of a tag
        return field.source
    if name in values:
        return values[name]
    near = near_names(name, values, 1, 0.5)
    advice = f"did you mean {{{near[0]}}}?" if near else f"add {name} to asset.{asset}.vars"
    raise ConfigError(f"key '{key}': asset {asset!r} has no value for {{{name}}}; {advice}")
