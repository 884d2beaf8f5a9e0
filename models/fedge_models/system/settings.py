# SPDX-License-Identifier: Apache-2.0
"""TOML files as frozen structs: units in the value, defaults beside the key, unknown keys refused by name; paths in a
file are relative to its folder.

Promises that a ConfigError names file, key, what was expected and what came, and for an unknown key the nearest
valid one. Leaves to the caller what a value means (files that exist, names that refer to each other).
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from ..errors import ConfigError
from . import files, type_words
from .choices import hint
from .plain_file import read_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_CONFIG_BYTES = 4 * 1024 * 1024

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"  # of nodes, federations, assets, sources, outputs: also parts of file names
SHOWN = 80  # characters of a wrong name in a message

T = TypeVar("T")


class Seconds(float):
    """A duration. In TOML a number of seconds or text with a unit: "250ms", "10s", "5m", "4h", "7d"."""


class Positive(Seconds):
    """A duration above zero: of at least a millisecond."""


LEAST_S, MOST_S = 0.001, 100 * 365 * 86400.0  # of durations; the system's own limits are no far above
_MISSING = re.compile(r"Object missing required field `(.+)`")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_seconds(value: object) -> Seconds:
    """Seconds from a number or text such as "10m". Raises ValueError."""
    found = -1.0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found = float(value) if abs(value) <= MOST_S else math.copysign(math.inf, value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        found = float(match[1]) * _UNITS[match[2]]
    if 0 <= found <= MOST_S:
        return Seconds(found)
    if found > MOST_S:
        raise ValueError(f"expected a duration of at most 100 years, got {value!r}")
    raise ValueError(f'expected a duration such as "30s", "10m", "4h" or a number of seconds, got {value!r}')


def _positive(value: object) -> Positive:
    seconds = parse_seconds(value)
    if seconds < LEAST_S:
        raise ValueError(f"expected a duration of at least 1 ms, got {value!r}")
    return Positive(seconds)


def load(path: Path, type_: type[T]) -> T:
    """Read a TOML file into `type_`. Raises ConfigError naming file and key."""
    return convert(read(path), type_, str(path))


def read(path: Path) -> dict[str, Any]:
    """A TOML file as plain tables. Raises ConfigError naming the file."""
    try:
        data = read_plain(path, MAX_CONFIG_BYTES)
    except PermissionError as e:
        raise ConfigError(files.explain(e, path)) from e
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from e
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise ConfigError(f"{path}: line {line}: byte 0x{data[e.start]:02x} is not UTF-8; save it as UTF-8 text") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from e


def write_example(path: Path, package: str, name: str) -> None:
    """Write a package's example configuration to a new file. Raises ConfigError when the file exists."""
    from importlib import resources  # only this command needs it

    if path.exists():
        raise ConfigError(f"{path}: exists already and was left as it is; to begin again, move it away first")
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, resources.files(package).joinpath(name).read_bytes())


def require(path: Path, program: str) -> None:
    """Raise a ConfigError that names the command which writes a configuration, if there is none at `path`."""
    try:
        path.stat()
    except FileNotFoundError as e:
        raise ConfigError(f"{path}: there is no such file; write one with: {program} init --config {path}") from e
    except OSError as e:
        raise ConfigError(files.explain(e, path)) from e


def check_name(name: str, where: str) -> None:
    """Raise a ConfigError that begins with `where` and says how a name must be written, unless `name` is."""
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"{where}: name {name[:SHOWN]!r}: expected 1 to 64 letters, digits, '_', '.' or '-', "
            "the first a letter or a digit"
        )


def convert(table: object, type_: type[T], where: str, key: str = "") -> T:
    """A table (from TOML) as `type_`; `where` is the file, `key` the dotted key of the table inside it."""
    decode = partial(_decode_extra, Path(where).parent)
    _refuse_no_numbers(table, where, key)
    try:
        return msgspec.convert(table, type_, dec_hook=decode)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{where}: {_explain(table, type_, key, e, decode)}") from e


def _refuse_no_numbers(table: object, where: str, key: str) -> None:
    """Raise ConfigError for nan and inf, which TOML has and no key takes."""
    if isinstance(table, float) and not math.isfinite(table):
        raise ConfigError(f"{where}: key {key!r}: expected a finite number, got {table}")
    for name, value in table.items() if isinstance(table, dict) else ():
        _refuse_no_numbers(value, where, f"{key}.{name}" if key else name)


def _decode_extra(folder: Path, type_: type, value: object) -> object:
    if type_ is Seconds:
        return parse_seconds(value)
    if type_ is Positive:
        return _positive(value)
    if type_ is Path and isinstance(value, str):
        if "\0" in value:
            raise ValueError(f"expected a path, got {value!r}: a path has no NUL character")
        return folder / value
    raise ValueError(f"expected {type_.__name__}, got {value!r}")


def _explain(
    table: object, type_: Any, key: str, error: msgspec.ValidationError, decode: Callable[[type, object], object]
) -> str:
    """Find the innermost table that fails by itself, and say it in the operator's words."""
    type_ = _present(type_) if isinstance(table, dict) else type_
    if isinstance(table, dict):
        for name, value, inner in _children(table, type_):
            try:
                msgspec.convert(value, inner, dec_hook=decode)
            except msgspec.ValidationError as e:
                return _explain(value, inner, f"{key}.{name}" if key else name, e, decode)
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            known = type_.__struct_encode_fields__
            for name in table:
                if name not in known:
                    return _unknown(name, known, key, _tables_with(name, type_, key))
    if isinstance(table, list) and (said := _entry(table, type_, key, decode)):
        return said
    text = str(error).split(" - at `")[0]
    if missing := _MISSING.fullmatch(text):
        return f"key {f'{key}.{missing[1]}' if key else missing[1]!r} is missing"
    if get_origin(type_) is Literal and isinstance(table, str):
        return f"key {key!r}: {hint(table, get_args(type_))}, got {table!r}"
    text = type_words.expected(text, type_, table) or text
    return f"key {key!r}: {text}" if key else text


def _entry(table: list[Any], type_: Any, key: str, decode: Callable[[type, object], object]) -> str:
    """Find the entry of a list that fails by itself, and name it by its number and, if it has one, its name."""
    inner = get_args(type_)[:1] if get_origin(type_) in (list, tuple) else ()
    for number, value in enumerate(table if inner else ()):
        try:
            msgspec.convert(value, inner[0], dec_hook=decode)
        except msgspec.ValidationError as e:
            name = value.get("name") if isinstance(value, dict) else None
            called = f", {name[:SHOWN]!r}" if isinstance(name, str) else ""
            said = _explain(value, inner[0], f"{key}[{number}]", e, decode)
            return f"{said} (entry {number + 1} of {key}{called})"
    return ""


def _present(type_: Any) -> Any:
    """The struct of a table that may be left out (`Struct | None`), or be text instead; any other type as it is."""
    choices = get_args(type_) if get_origin(type_) in (Union, UnionType) else ()
    structs = [t for t in choices if isinstance(t, type) and issubclass(t, msgspec.Struct)]
    return structs[0] if len(structs) == 1 and {type(None), str}.issuperset({*choices} - {*structs}) else type_


def _children(table: dict[str, Any], type_: Any) -> list[tuple[str, Any, Any]]:
    """The entries of a table whose type is known, with that type."""
    if get_origin(type_) in (dict, Mapping):
        return [(name, value, get_args(type_)[1]) for name, value in table.items()]
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        types = {f.encode_name: f.type for f in msgspec.structs.fields(type_)}
        return [(name, value, types[name]) for name, value in table.items() if name in types]
    return []


def _tables_with(name: str, type_: type[msgspec.Struct], key: str) -> list[str]:
    """The tables below `key` that have a key `name`: its header may have stayed a comment of the example."""
    inner = {f.encode_name: _present(f.type) for f in msgspec.structs.fields(type_)}
    structs = {n: t for n, t in inner.items() if isinstance(t, type) and issubclass(t, msgspec.Struct)}
    return [f"[{key}.{n}]" if key else f"[{n}]" for n, t in structs.items() if name in t.__struct_encode_fields__]


def _unknown(name: str, known: tuple[str, ...], key: str, elsewhere: list[str]) -> str:
    advice = f"it belongs below {' or '.join(elsewhere)}" if elsewhere else hint(name, known)
    return f"unknown key {f'{key}.{name}' if key else name!r}; {advice}"
