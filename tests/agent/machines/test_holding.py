# SPDX-License-Identifier: Apache-2.0
"""Which sources wait for a machine that cannot decide yet, and for how long when another machine shares them."""

from __future__ import annotations

from fedge_agent.machines.condition import Cause, Reason
from fedge_agent.machines.holding import FIT_S, SHARED_S, Holding

MODEL, LIMIT = Cause(Reason.MODEL), Cause(Reason.BASELINE)


def test_a_file_waits_for_a_model_as_long_as_it_takes() -> None:
    made = Holding({"pump": frozenset({"log"}), "fan": frozenset({"plc"})}, ["log"])
    assert made.assets == {"pump"}
    for now in (0.0, 1e9):
        held = made.update({"pump": MODEL, "fan": None}, now)
        assert held.sources == {"log": "pump waits for its model"} and not held.given_up
    assert not made.update({"pump": None, "fan": None}, 1e9 + 1).sources


def test_a_machine_that_has_a_living_source_too_holds_nothing() -> None:
    made = Holding({"pump": frozenset({"log", "plc"})}, ["log"])
    assert not made.assets and not made.update({"pump": MODEL}, 0.0).sources


def test_all_files_of_a_machine_wait_together() -> None:
    made = Holding({"pump": frozenset({"log", "log2"})}, ["log", "log2"])
    assert made.update({"pump": LIMIT}, 0.0).sources.keys() == {"log", "log2"}


def test_a_machine_that_decides_waits_only_a_minute_for_another_one_and_that_is_reported() -> None:
    made = Holding({"pump": frozenset({"log"}), "fan": frozenset({"log"})}, ["log"])
    assert made.update({"pump": MODEL, "fan": None}, 0.0).sources
    assert made.update({"pump": MODEL, "fan": None}, SHARED_S).sources
    held = made.update({"pump": MODEL, "fan": None}, SHARED_S + 1)
    assert not held.sources and "pump still waits for its model after 61 s" in held.given_up["log"]
    assert made.update({"pump": MODEL, "fan": MODEL}, SHARED_S + 2).sources  # for the other one it begins anew
    held = made.update({"pump": None, "fan": None}, SHARED_S + 3)
    assert not held.sources and not held.given_up
    assert made.update({"pump": LIMIT, "fan": None}, SHARED_S + 4).sources


def test_a_limit_that_never_comes_does_not_stop_the_reading_for_ever() -> None:
    made = Holding({"pump": frozenset({"log"})}, ["log"])
    assert made.update({"pump": LIMIT}, 0.0).sources and made.update({"pump": LIMIT}, FIT_S).sources
    assert made.update({"pump": LIMIT}, FIT_S + 1).given_up
