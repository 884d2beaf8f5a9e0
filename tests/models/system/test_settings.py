# SPDX-License-Identifier: Apache-2.0
"""Configuration errors name file, key, expected and got; cards are checked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import pytest
from fedge_models.errors import ConfigError, ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, decode_card, encode_card
from fedge_models.system import settings
from fedge_models.system.settings import Seconds


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: int = 1
    wait: Seconds = Seconds(5)
    folder: Path | None = None


class Must(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: int


class Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    factor: float = 1.0


class Deep(Inner, frozen=True, forbid_unknown_fields=True):
    level: Literal["loud", "quiet"] = "quiet"
    must: Must | None = None


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: dict[str, Inner] = {}
    deep: Deep = Deep()
    maybe: Inner | None = None
    entries: tuple[Named, ...] = ()


def load(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "a.toml"
    path.write_text(text)
    return settings.load(path, Outer)


def test_units_and_paths(tmp_path: Path) -> None:
    got = load(tmp_path, '[source.plc]\nwait = "250ms"\nfolder = "/x"\n[deep]\nwait = 3\nfolder = "y"\n')
    assert got.source["plc"].wait == 0.25
    assert got.source["plc"].folder == Path("/x")
    assert got.deep.wait == 3.0
    assert got.deep.folder == tmp_path / "y"  # relative to the file, wherever the program is started


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[source.plc]\nprot = 4\n", ["a.toml", "'source.plc.prot'", "did you mean 'port'"]),
        ("[source.plc]\nzzz = 4\n", ["'source.plc.zzz'", "expected one of: folder, port, wait"]),
        ("[sorce.plc]\nport = 4\n", ["'sorce'", "did you mean 'source'"]),
        ('[source.plc]\nport = "4"\n', ["'source.plc.port': expected a whole number, got '4'"]),
        ('[deep]\nwait = "5 parsecs"\n', ["'deep.wait'", "10m", "5 parsecs"]),
        (
            'entries = [{ name = "a" }, { name = "speed", factor = "x" }]',
            ["'entries[1].factor': expected a number, got 'x'", "(entry 2 of entries, 'speed')"],
        ),
        ('entries = [{ name = "a", factr = 2 }]', ["'entries[0].factr'; did you mean 'factor'?", "1 of entries, 'a'"]),
        ('entries = [{ name = "a" }, "speed"]', ["'entries[1]': expected a table, got 'speed' (entry 2 of entries)"]),
        ("entries = [{ factor = 2 }]", ["'entries[0].name' is missing (entry 1 of entries)"]),
        ("[maybe]\nport = 4.5\n", ["'maybe.port': expected a whole number, got 4.5"]),
        ("[maybe]\nprot = 4\n", ["'maybe.prot'", "did you mean 'port'"]),
        ("[deep]\nwait = -1\n", ["'deep.wait'", "-1"]),
        ("[deep\n", ["a.toml", "not valid TOML"]),
        ("wait = 3\n", ["'wait'", "belongs below [deep] or [maybe]"]),
        ('[deep]\nlevel = "lou"\n', ["'deep.level'", "did you mean 'loud'", "got 'lou'"]),
        ('[deep]\nlevel = "zzz"\n', ["expected one of: loud, quiet", "got 'zzz'"]),
        ("[deep.must]\n", ["key 'deep.must.port' is missing"]),
        ('[deep]\nfolder = "a\\u0000b"\n', ["'deep.folder'", "no NUL"]),
    ],
)
def test_errors_say_what_where_expected_and_got(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for word in words:
        assert word in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        settings.load(tmp_path / "none.toml", Outer)


def test_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match=f"write one with: fedge-agent init --config {path}"):
        settings.require(path, "fedge-agent")


@pytest.mark.parametrize("name", ["x" * 5000, "a.toml/b.toml"])
def test_a_path_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.toml").touch()
    with pytest.raises(ConfigError):
        settings.require(tmp_path / name, "fedge-agent")


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b'[deep]\nfolder = "\xe9"\n')
    with pytest.raises(ConfigError, match=r"a\.toml: line 2: byte 0xe9 is not UTF-8; save it"):
        settings.load(tmp_path / "a.toml", Outer)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "gateway-1\n", "x" * 65, "x" * 5000])
def test_a_name_that_is_none_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ConfigError, match=r"node: name .*: expected 1 to 64 letters, digits") as caught:
        settings.check_name(name, "node")
    assert len(str(caught.value)) < 250
    settings.check_name("x" * 64, "node")


CARD = Card("classify", (Channel("a", "g"),), WindowSpec(1.0, 60, 10), ("mean",), ("ok", "bad"), "ok")


def test_card_round_trip() -> None:
    assert decode_card(encode_card(CARD)) == CARD


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"channels": ()}, "channels"),
        ({"channels": (Channel("a"), Channel("a"))}, "repeat"),
        ({"window": WindowSpec(0, 60, 10)}, "rate_hz"),
        ({"window": WindowSpec(1, 0, 10)}, "length"),
        ({"window": WindowSpec(1, 60, 0)}, "hop"),
        ({"labels": ("ok",)}, "labels"),
        ({"normal": "fine"}, "'fine'"),
        ({"threshold_quantile": 1.0}, "threshold_quantile"),
    ],
)
def test_impossible_card_is_refused_by_field(change: dict[str, object], word: str) -> None:
    card = msgspec.structs.replace(CARD, **change)
    with pytest.raises(ModelError, match=word):
        decode_card(encode_card(card))
