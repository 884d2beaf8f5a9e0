# SPDX-License-Identifier: Apache-2.0
"""Examples load; every configuration key, command and metric is documented; unit files are sound."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest
from fedge_agent.cli.main import main as agent_main
from fedge_agent.config import schema as agent_config
from fedge_agent.config.plugins import load_class
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.outputs.registry import build as build_output
from fedge_agent.sources.registry import SOURCES
from fedge_agent.sources.registry import build as build_source
from fedge_aggregator.cli.main import main as aggregator_main
from fedge_aggregator.config import schema as aggregator_config
from fedge_aggregator.config.load import load as load_aggregator
from fedge_aggregator.rounds.rules.registry import MIXINGS, RULES
from fedge_aggregator.rounds.server_optimizers import OPTIMIZERS as SERVER_OPTIMIZERS
from fedge_fleet.cli import main as fleet_main
from fedge_models.graph.card import Card
from fedge_models.ops.registry import OPERATORS
from support.paths import ROOT

AGENT = ROOT / "agent/fedge_agent/agent.example.toml"
AGGREGATOR = ROOT / "aggregator/fedge_aggregator/aggregator.example.toml"
UNITS = [ROOT / "agent/fedge_agent/fedge-agent.service", ROOT / "aggregator/fedge_aggregator/fedge-aggregator.service"]


def structs(type_: type) -> list[type]:
    """A struct and all structs inside its fields."""
    found = [type_]
    for field in msgspec.structs.fields(type_):
        for inner in [field.type, *get_args(field.type)]:
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                found += structs(inner)
    return found


def uncommented(path: Path) -> str:
    """The example with its commented defaults in force."""
    keep = [line for line in path.read_text().splitlines() if not re.match(r"# (-|[A-Z]|`)", line)]
    return "\n".join(re.sub(r"^# (?=[\w\[.]+ ?[=\]\w.-]*)", "", line) for line in keep)


def test_agent_example_loads_and_builds() -> None:
    config = agent_config.load(AGENT)
    for name, table in config.source.items():
        build_source(name, table, str(AGENT))
    for name, table in config.output.items():
        build_output(name, table, str(AGENT))
    assert config.asset["pump-1"].label is not None


def keys_of(struct: type) -> tuple[str, ...]:
    return tuple(field.encode_name for field in msgspec.structs.fields(struct))


def test_aggregator_example_loads() -> None:
    assert load_aggregator(AGGREGATOR).federation["pump-anomaly"] == aggregator_config.FederationConfig()


def test_every_agent_key_is_in_the_example() -> None:
    text = AGENT.read_text()
    plugins = [load_class(path).Config for path in (*SOURCES.values(), *OUTPUTS.values())]
    for struct in [*structs(agent_config.Config), *plugins]:
        for key in keys_of(struct):
            assert re.search(rf"\b{key}\b", text), f"{struct.__name__}.{key} is not in {AGENT.name}"


def test_every_aggregator_key_is_in_the_example() -> None:
    text = AGGREGATOR.read_text()
    for struct in structs(aggregator_config.Config):
        for key in keys_of(struct):
            assert re.search(rf"\b{key}\b", text), f"{struct.__name__}.{key} is not in {AGGREGATOR.name}"


def test_every_rule_mixing_and_server_optimizer_is_documented() -> None:
    text = (ROOT / "docs/data-scientist/rules.md").read_text()
    for name, struct in [*RULES.items(), *MIXINGS.items(), *SERVER_OPTIMIZERS.items()]:
        assert f"`{name}`" in text
        for key in keys_of(struct):
            assert f"`{key}`" in text


@pytest.mark.parametrize("main", [agent_main, aggregator_main, fleet_main], ids=["agent", "aggregator", "fleet"])
def test_every_command_has_help(main: click.Group) -> None:
    for name, command in main.commands.items():
        assert command.help, name


def test_every_operator_and_field_of_the_card_is_documented() -> None:
    text = (ROOT / "docs/reference/model-card.md").read_text()
    for name in OPERATORS:
        assert re.search(rf"\b{name}\b", text), name
    for struct in structs(Card):
        for field in msgspec.structs.fields(struct):
            assert re.search(rf"\b{field.name}\b", text), f"{struct.__name__}.{field.name}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.stem)
def test_unit_is_hardened(unit: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:]


@pytest.mark.parametrize("unit", UNITS, ids=lambda p: p.stem)
def test_unit_verifies(unit: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here")
    copy = tmp_path / unit.name
    true = shutil.which("true") or "/bin/true"
    copy.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={true}", unit.read_text(), flags=re.M))
    done = subprocess.run(
        ["systemd-analyze", "--man=no", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not [x for x in done.stderr.splitlines() if unit.name in x], done.stderr
