# SPDX-License-Identifier: Apache-2.0
"""Every number in the configuration: 0, negative, huge, nan, inf, text, true. Each is valid, or refused with its key.

Walks the types of all tables, so that a new key is held to this by existing. A plugin is built from what is valid, and
tries a connection with it.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
from fedge_agent.config import schema
from fedge_agent.config.plugins import load_class
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.outputs.registry import build as build_output
from fedge_agent.sources.registry import SOURCES
from fedge_agent.sources.registry import build as build_source
from fedge_models.errors import ConfigError

NEVER = ["nan", "inf", "-inf", '"many"', "true", "[]"]  # no key of a number takes these
SOME = ["0", "-1", "-0.5", "1e300", "9223372036854775807", '"5"', "1e-300"]
UNSIGNED = ["-1", "-0.5"]  # and no key takes these
TAG = {"source": '"s"', "tag": '"c"'}
WAVE = {**TAG, "waveform_hz": "1.0"}
WANTED: dict[str, dict[str, Any]] = {  # what a table needs besides the key
    "agent": {"name": '"gw"', "state": '"state"'},
    "asset.a": {"model": '"m"', "channels": {"c": TAG}},
    "asset.a.channels.x": WAVE,
    "asset.a.targets.x": WAVE,
    "asset.a.context.x": WAVE,
    "asset.a.label": WAVE,
    "asset.a.shaft_rpm": WAVE,
    "asset.a.inspection": {"verdict": WAVE},
    "asset.a.inspection.verdict": WAVE,
    "asset.a.inspection.part": WAVE,
    "asset.a.inspection.time": WAVE,
    "asset.a.when.medium": {"score": "2.0", "after": '"1h"'},
    "asset.a.when.high": {"score": "4.0", "after": '"1h"'},
    "asset.a.bearing": {"elements": "8", "element_diameter": "5.97", "pitch_diameter": "31.62"},
    "model.m.privacy": {"clip": "1.0", "noise_multiplier": "20.0", "epsilon": "8.0", "delta": "1e-5"},
    "raw": {"shape": "[4, 4]", "dtype": '"uint16"'},
}
NEEDED: dict[str, dict[str, Any]] = {
    "camera": {"device": '"/dev/none"'},
    "http": {"url": '"http://127.0.0.1:9/"'},
    "files": {"path": '"x.csv"'},
    "images": {"path": '"pictures"'},
    "mqtt": {"url": '"mqtt://127.0.0.1:9"', "client_id": '"c"', "topic": '"t/{asset}"'},
    "opcua": {"url": '"opc.tcp://127.0.0.1:9"', "decisions": {'"ns=2;s={asset}"': '"{score}"'}},
    "sparkplug": {"url": '"mqtt://127.0.0.1:9"', "group": '"g"', "node": '"n"'},
    "log": {},
    "mes": {"url": '"http://127.0.0.1:9/"'},
    "webhook": {"url": '"http://127.0.0.1:9/"'},
    "opcua-server": {},
}


def numbers(type_: Any, key: str) -> Iterator[str]:
    """The dotted keys below `key` whose values may be numbers; x stands for a name."""
    kind, parts = get_origin(type_), get_args(type_)
    if kind is types.UnionType or "Union" in str(kind):
        for part in parts:
            yield from numbers(part, key)
    elif kind is dict:
        yield from numbers(parts[1], f"{key}.x") if hasattr(parts[1], "__struct_fields__") else ()
    elif hasattr(type_, "__metadata__"):
        yield from numbers(type_.__origin__, key)
    elif hasattr(type_, "__struct_fields__") and key.count("then") < 2:
        for field in msgspec.structs.fields(type_):
            yield from numbers(field.type, f"{key}.{field.encode_name}")
    elif isinstance(type_, type) and issubclass(type_, (int, float)) and type_ is not bool:
        yield key


def core() -> list[str]:
    tables = {"agent": schema.AgentConfig, "model.m": schema.ModelConfig, "asset.a": schema.AssetConfig}
    return sorted({key for name, type_ in tables.items() for key in numbers(type_, name)})


def plugins() -> list[tuple[str, str, str]]:
    """(kind, type, key) of each number of each source and output."""
    of = {"source": SOURCES, "output": OUTPUTS}
    return [
        (kind, name, key.removeprefix("p."))
        for kind, registry in of.items()
        for name, path in registry.items()
        for key in sorted(set(numbers(load_class(path).Config, "p")))
    ]


def file(folder: Path, key: str, value: str, more: dict[str, Any]) -> Path:
    """A configuration with one more key, and what its tables need."""
    made: dict[str, Any] = {"source": {"s": {"type": '"files"', "path": '"x.csv"'}}, "model": {"m": {}}, **more}
    inner = [p for p in WANTED if key.startswith(f"{p}.") and p not in ("agent", "asset.a")]
    for place in ["agent", "asset.a", *inner]:
        put(made, place, WANTED[place])
    for place in (p for p in WANTED if f".{p}." in key and "." not in p):
        put(made, key.rpartition(".")[0], WANTED[place])
    if key.startswith("asset.a.inspection."):
        put(made, "asset.a.context.part", TAG)
    put(made, key.rpartition(".")[0], {key.rpartition(".")[2]: value})
    path = folder / "agent.toml"
    path.write_text("".join(f"{name} = {written(table)}\n" for name, table in made.items()))
    return path


def put(made: dict[str, Any], place: str, entries: dict[str, Any]) -> None:
    for name in place.split("."):
        made = made.setdefault(name, {})
    made.update({k: dict(v) if isinstance(v, dict) else v for k, v in entries.items()})


def written(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {written(v)}" for k, v in value.items()) + " }"
    return str(value)


def refusal(path: Path, key: str, value: str, kind: str = "", name: str = "") -> tuple[str, Any]:
    """Why a value is refused, and the plugin that was built where it is not."""
    try:
        config = schema.load(path)
        if not kind:
            return "", None
        build = build_source if kind == "source" else build_output
        return "", build("p", getattr(config, kind)["p"], str(path), path.parent)
    except ConfigError as e:
        text = str(e)
        assert key.rpartition(".")[2] in text, (key, value, text)
        assert not any(t in text for t in ("Errno", "Traceback", "nexpected ")), (key, value, text)
        return text, None


def test_the_walk_finds_numbers() -> None:
    assert len(core()) > 40 and len(plugins()) > 40
    assert {"agent.queue_batches", "model.m.training.learning_rate", "asset.a.window.rate_hz"} <= set(core())
    assert ("source", "opcua", "timeout") in plugins() and ("output", "mes", "timeout") in plugins()
    assert set(NEEDED) == set(SOURCES) | set(OUTPUTS)


@pytest.mark.parametrize("key", core())
def test_numbers_of_the_configuration(key: str, tmp_path: Path) -> None:
    for value in (*NEVER, *UNSIGNED):
        text, _ = refusal(file(tmp_path, key, value, {}), key, value)
        assert text and ("got" in text or "expected" in text), (key, value, text)
    for value in SOME:
        refusal(file(tmp_path, key, value, {}), key, value)
    good = ("1", "0.5", "8", "0", '"1h"', "20", "1e-6", "64")
    assert any(not refusal(file(tmp_path, key, v, {}), key, v)[0] for v in good)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("kind", "name", "key"), plugins())
def test_numbers_of_sources_and_outputs(kind: str, name: str, key: str, tmp_path: Path) -> None:
    known = load_class((SOURCES if kind == "source" else OUTPUTS)[name]).Config.__struct_encode_fields__
    needed = {k: v for k, v in NEEDED[name].items() if k in known}
    more = {kind: {"p": {"type": f'"{name}"', **needed}}} | (
        {"source": {"s": {"type": '"files"', "path": '"x.csv"'}, "p": {"type": f'"{name}"', **needed}}}
        if kind == "source"
        else {}
    )
    where = f"{kind}.p.{key}"
    for value in NEVER:
        text, _ = refusal(file(tmp_path, where, value, more), key, value, kind, name)
        assert text and ("got" in text or "expected" in text), (key, value, text)
    for value in (*SOME, "1"):
        text, part = refusal(file(tmp_path, where, value, more), key, value, kind, name)
        if value in UNSIGNED:
            assert text, (key, value)
        if part is not None and key in ("timeout", "keepalive", "max_age", "publishing_interval"):
            for problem in part.check(["c"]) if kind == "source" else part.check():
                assert "115" not in problem and "nexpected " not in problem, (key, value, problem)
