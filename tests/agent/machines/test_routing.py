# SPDX-License-Identifier: Apache-2.0
"""A batch is divided once: each machine gets its own readings, by what it does with them."""

from __future__ import annotations

from fedge_agent.config.schema import AssetConfig, Inspection, LabelConfig, TagConfig
from fedge_agent.machines.routing import Routes
from fedge_agent.types import Batch, Reading


def tag(name: str, source: str = "plc") -> TagConfig:
    return TagConfig(source=source, tag=name)


ASSETS = {
    "pump": AssetConfig(
        model="m",
        channels={"flow": tag("f"), "speed": tag("n")},
        label=LabelConfig(source="plc", tag="job"),
        context={"job": tag("job"), "part": tag("part", "line")},
        inspection=Inspection(verdict=tag("ok", "line")),
    ),
    "fan": AssetConfig(model="m", channels={"speed": tag("n"), "again": tag("n")}),
}
ROUTES = Routes({"plc": None, "line": None, "idle": None}, ASSETS)


def batch(source: str, *tags: str, alive: int | None = 7) -> Batch:
    return Batch(source, [Reading(name, 1, 2.0) for name in tags], alive, 3, True, 4)


def names(part: Batch | None) -> list[str] | None:
    return None if part is None else [r.tag for r in part.readings]


def test_each_machine_gets_its_own_readings_in_their_order() -> None:
    pump, fan = ROUTES.divide(batch("plc", "n", "job", "f", "n", "unknown"))
    assert (pump.asset, names(pump.windows), names(pump.context), names(pump.inspection)) == (
        "pump", ["n", "job", "f", "n"], ["job"], None,
    )  # fmt: skip
    assert (fan.asset, names(fan.windows), names(fan.context)) == ("fan", ["n", "n"], None)


def test_a_machine_without_a_reading_learns_that_its_source_is_alive() -> None:
    (pump,) = ROUTES.divide(batch("line"))
    assert pump.windows == batch("line") and names(pump.context) == names(pump.inspection) == []
    assert pump.windows.alive_ns == 7 and pump.windows.fresh and pump.windows.inbox_row == 4


def test_a_source_is_asked_for_each_tag_once() -> None:
    assert ROUTES.tags("plc") == ["f", "n", "job"] and ROUTES.tags("line") == ["part", "ok"]
    assert ROUTES.tags("idle") == [] and ROUTES.assets("idle") == [] and ROUTES.assets("plc") == ["pump", "fan"]
    assert "line" in ROUTES and "removed" not in ROUTES
