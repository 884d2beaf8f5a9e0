# SPDX-License-Identifier: Apache-2.0
"""A configuration struct as rows of a table: key, what it takes, its default, what it means."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from fedge_models.system.settings import Positive, Seconds

from .markdown import code, table

DURATIONS = {Seconds: "duration", Positive: "duration above 0"}
PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"} | DURATIONS
UNITS = ((86400, "d"), (3600, "h"), (60, "m"))
COMMENT = re.compile(r"^    (\w+): .*?  # (.*)$", re.M)


def rows(struct: type[msgspec.Struct], comments: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """A row a key. The words are those of the example file, else those beside the field in the source."""
    hints = get_type_hints(struct, include_extras=True)
    words = {**_source_comments(struct), **{k: v for k, v in comments.items() if v}}
    return [
        (code(f.encode_name), kind(hints[f.name]), default(f, hints[f.name]), words.get(f.encode_name, ""))
        for f in msgspec.structs.fields(struct)
    ]


def rendered(struct: type[msgspec.Struct], comments: Mapping[str, str]) -> str:
    """The table of a struct."""
    return table(("key", "takes", "default", "meaning"), rows(struct, comments))


def kind(hint: Any) -> str:
    """What a key takes, in words."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin is Annotated:
        names = [name for meta in args[1:] for name in _choices(meta)]
        return _listed(names) or kind(args[0]) + "".join(_bounds(m) for m in args[1:] if isinstance(m, msgspec.Meta))
    if origin in (UnionType, Union):
        return " or ".join(dict.fromkeys(kind(a) for a in args if a is not type(None)))
    if origin is tuple:
        return f"list of {kind(args[0])}"
    return _listed(args) if origin is Literal else "table"


def _listed(choices: Sequence[Any]) -> str:
    return ", ".join(code(_toml(c)) for c in choices)


def default(field: msgspec.structs.FieldInfo, hint: Any) -> str:
    """The default as TOML has it; "required" where there is none."""
    if field.default_factory is not msgspec.NODEFAULT:
        value: Any = field.default_factory()
        return code(_toml(value)) if value else ""
    if field.default is msgspec.NODEFAULT:
        return "required"
    if field.default is None or isinstance(field.default, msgspec.Struct):
        return ""
    return code(_duration(field.default) if "duration" in kind(hint) else _toml(field.default))


def _choices(meta: Any) -> list[str]:
    """Names that are choices of a registry, which the struct's own type does not list."""
    return list((getattr(meta, "extra_json_schema", None) or {}).get("enum", ()))


def _bounds(meta: msgspec.Meta) -> str:
    signs = (("≥", meta.ge), (">", meta.gt), ("≤", meta.le), ("<", meta.lt))
    return "".join(f", {sign} {bound:g}" for sign, bound in signs if bound is not None)


def _duration(value: float) -> str:
    if value and value < 1:
        return f'"{value * 1000:g}ms"'
    unit = next((u for u in UNITS if value and value % u[0] == 0), (1, "s"))
    return f'"{value / unit[0]:g}{unit[1]}"'


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str | Path) else f"{value}"


def _source_comments(struct: type[msgspec.Struct]) -> dict[str, str]:
    found: dict[str, str] = {}
    for class_ in reversed(struct.__mro__):
        if class_ is not msgspec.Struct and issubclass(class_, msgspec.Struct):
            found |= dict(COMMENT.findall(inspect.getsource(class_)))
    return found
