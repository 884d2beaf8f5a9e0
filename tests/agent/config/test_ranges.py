# SPDX-License-Identifier: Apache-2.0
"""A channel's range is checked when the file is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_agent.config.schema import load
from fedge_models.errors import ConfigError

FILE = """
[agent]
name = "gw"
state = "state"
[source.plc]
type = "files"
path = "x.csv"
[model.m]
[asset.pump]
model = "m"
channels.temp = {{ source = "plc", tag = "temp"{} }}
context = {{ job = {{ source = "plc", tag = "job"{} }} }}
"""


def write(folder: Path, channel: str = "", context: str = "") -> Path:
    path = folder / "agent.toml"
    path.write_text(FILE.format(channel, context))
    return path


def test_a_range_is_a_pair_of_numbers(tmp_path: Path) -> None:
    config = load(write(tmp_path, ", range = [-40, 200]"))
    assert config.asset["pump"].channels["temp"].range == (-40, 200)
    assert load(write(tmp_path)).asset["pump"].channels["temp"].range is None


@pytest.mark.parametrize("text", ["[200, -40]", "[1, 1]", "[nan, 1]", "[0, inf]"])
def test_a_range_that_holds_nothing_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.toml: key 'asset\.pump\.channels\.temp\.range': got .*low < high"):
        load(write(tmp_path, f", range = {text}"))


@pytest.mark.parametrize("text", ["[1]", "[1, 2, 3]", '"1-2"', '["a", "b"]'])
def test_a_range_of_another_form_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"asset\.pump\.channels\.temp\.range"):
        load(write(tmp_path, f", range = {text}"))


def test_a_text_has_no_range(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"context\.job\.range': only channels, targets, label and shaft_rpm"):
        load(write(tmp_path, context=", range = [0, 1]"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("window.hop", "-5"),
        ("window.hop", "0"),
        ("window.length", "0"),
        ("window.length", "1000000000000"),
        ("window.rate_hz", "0"),
        ("window.rate_hz", "-1.0"),
        ("window.rate_hz", "inf"),
        ("window.rate_hz", "1e9"),
        ("window.max_missing", "7"),
        ("when.for_windows", "0"),
        ("when.clear_below", "5"),
    ],
)
def test_windows_and_alarms_that_cannot_be_are_refused(key: str, value: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(f"{path.read_text()}{key} = {value}\n")
    with pytest.raises(ConfigError, match=f"key 'asset.pump.{key}': expected"):
        load(path)
