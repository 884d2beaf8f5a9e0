# SPDX-License-Identifier: Apache-2.0
"""Twenty equal machines are one template and twenty lines; an error names asset, template and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_agent.config import schema as configs
from fedge_agent.config.schema import Config
from fedge_models.errors import ConfigError

HEAD = """
[agent]
name = "gw"
state = "state"
[source.plc-a]
type = "opcua"
[source.plc-b]
type = "opcua"
[model.m]
"""
TEMPLATE = """
[template.pump]
model = "m"
channels.current = { source = "{plc}", tag = "ns=2;s={name}.Current" }
channels.pressure = { source = "{plc}", tag = "ns=2;s={name}.{{x}}", waveform_hz = 1000.0, index = "{row}" }
label = { map = { "{code}" = "normal", NFF = "{ok}" }, late = "2d" }
window = { hop = "{hop}", length = 60 }
"""


def load(folder: Path, text: str) -> Config:
    (folder / "gw.toml").write_text(HEAD + text)
    return configs.load(folder / "gw.toml")


def test_twenty_pumps_are_a_template_and_twenty_lines(tmp_path: Path) -> None:
    line = 'asset.pump-%d = { template = "pump", vars = { plc = "plc-%s", hop = %d, row = 0, ok = "normal" } }'
    lines = "\n".join(line % (i, "ab"[i % 2], i) for i in range(1, 21))
    (tmp_path / "gw.toml").write_text(lines + "\n" + HEAD + TEMPLATE)
    made = configs.load(tmp_path / "gw.toml").asset
    assert len(made) == 20
    pump = made["pump-7"]
    assert pump.channels["current"].source == "plc-b" and pump.channels["current"].tag == "ns=2;s=pump-7.Current"
    assert pump.channels["pressure"].tag == "ns=2;s=pump-7.{x}"  # doubled braces are braces
    assert pump.window.hop == 7 and pump.window.length == 60  # a placeholder alone keeps its value's type
    assert pump.label is not None and pump.label.map == {"{code}": "normal", "NFF": "normal"}


def test_an_assets_own_keys_come_on_top(tmp_path: Path) -> None:
    made = load(
        tmp_path,
        TEMPLATE
        + """
[asset.pump-1]
template = "pump"
vars = { plc = "plc-a", hop = 5, row = 1, ok = "normal" }
channels.pressure.tag = "other"
channels.extra = { source = "plc-b", tag = "x" }
window.length = 30
""",
    ).asset["pump-1"]
    assert sorted(made.channels) == ["current", "extra", "pressure"]
    assert (made.channels["pressure"].tag, made.channels["pressure"].source) == ("other", "plc-a")
    assert (made.window.length, made.window.hop) == (30, 5)


GOOD = 'template = "pump"\nvars = { plc = "plc-a", hop = 5, row = 0, ok = "normal" }\n'


@pytest.mark.parametrize(
    ("asset", "message"),
    [
        ('template = "pumb"', "key 'asset.pump-1.template': there is no [template.pumb]; did you mean 'pump'?"),
        ("template = 3", "there is no [template.3]; expected one of: pump"),
        ('template = "pump"', "key 'template.pump.channels.current.source': asset 'pump-1' has no value for {plc}"),
        (GOOD.replace("plc =", "plx ="), "did you mean {plx}?"),
        (GOOD.replace("5", '"five"'), "window.hop': expected a whole number or nothing, got 'five' (asset 'pump-1"),
        (GOOD.replace("plc-a", "plc-c"), "key 'asset.pump-1.channels.current.source': 'plc-c' is not configured; did "),
        (GOOD.replace("plc-a", "plc-c"), "(asset 'pump-1' with [template.pump])"),
        (GOOD + "windw = 3", "unknown key 'asset.pump-1.windw'; did you mean 'window'? (asset 'pump-1'"),
        (GOOD.replace("hop = 5", "hop = true"), "key 'asset.pump-1.vars.hop': expected a text or a number, got True"),
        (GOOD.replace("hop = 5", "hop = [5]"), "key 'asset.pump-1.vars.hop': expected a text or a number, got [5]"),
        (GOOD.replace("hop = 5", 'name = "x"'), "key 'asset.pump-1.vars.name': it is the asset's own name"),
        ('template = "pump"\nvars = 3', "key 'asset.pump-1.vars': expected a table of texts and numbers, got 3"),
        (GOOD + '[template.fan]\nmodle = "m"', "unknown key 'template.fan.modle'; did you mean 'model'?"),
        (GOOD + '[template]\nfan = 3', "template"),
        (GOOD + '[template."a b"]\nmodel = "m"', "name 'a b': expected 1 to 64 letters"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_reported_with_asset_template_and_key(tmp_path: Path, asset: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f"{TEMPLATE}\n[asset.pump-1]\n{asset}")
    assert message in str(error.value) and str(tmp_path / "gw.toml") in str(error.value)


PLAIN = '[asset.a]\nmodel = "m"\nchannels.c = { source = "plc-a", tag = "t" }\n'


@pytest.mark.parametrize(
    ("asset", "message"),
    [
        ('label = { source = "plc-a" }', "key 'asset.a.label': source and tag are given together"),
        ('label = { source = "plc", tag = "t" }', "key 'asset.a.label.source': 'plc' is not configured"),
        ('label = { late = "soon" }', "key 'asset.a.label.late'"),
        ('context = { job = { source = "mes", tag = "t" } }', "key 'asset.a.context.job.source': 'mes'"),
        ("inspection = {}", "key 'asset.a.inspection': give either verdict (a tag) or path (a CSV file)"),
        ('inspection = { path = "x", verdict = { source = "plc-a", tag = "t" } }', "give either verdict (a tag) or"),
        ('inspection = { path = "x", part_column = "p" }', "parts are joined with context.part, which"),
        ('inspection = { path = "x", time_column = "" }', "part_column or time_column is needed"),
        ('inspection = { path = "x", time_zone = "Mars/Olympus" }', "asset.a.inspection': time_zone: 'Mars/Olympus'"),
        ('inspection = { path = "x", time_zone = "../../etc/passwd" }', "time_zone"),
        ('inspection = { verdict = { source = "qa", tag = "t" } }', "key 'asset.a.inspection.verdict.source': 'qa'"),
    ],
)  # fmt: skip
def test_labels_and_context_that_cannot_be_are_refused_by_key(tmp_path: Path, asset: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, PLAIN + asset)
    assert message in str(error.value)
