# SPDX-License-Identifier: Apache-2.0
"""What `status` says of inputs: nothing where all is as learnt, the share outside, and a PROBLEM while one drifts."""

from __future__ import annotations

from typing import Any

from fedge_agent.cli.drift_lines import of_inputs, problems

REASON = "flow moved to 13, learnt were 4.8 to 6.9"


def _column(text: str, lasts: bool = True) -> dict[str, Any]:
    return {"text": text, "lasts": lasts}


def entry(**changes: Any) -> dict[str, Any]:
    known = {
        "watched": True,
        "open": False,
        "outside_share": 0.0,
        "columns": {},
        "covered_s": 9e4,
        "baseline_s": 8.64e4,
    }
    return {**known, "reason": "", "since_ns": None, "key": "", "unlike_key": "", "unlike_reason": "", **changes}


OPEN = entry(
    open=True, outside_share=1.0, reason=REASON, since_ns=1_780_300_000 * 10**9, key="gw:m:p:drift-k3x9q-1",
    columns={"flow": _column("flow moved to 14, learnt were 4.8 to 6.9"), "temp": _column("temp is constant at 4"),
             "x": _column("x moved to 3, learnt were 1 to 2", lasts=False)},
)  # fmt: skip


def test_nothing_is_said_of_inputs_as_they_were_learnt() -> None:
    for quiet in (
        entry(),
        entry(outside_share=None),
        entry(outside_share=0.01),
        entry(watched=False, outside_share=1.0),
    ):
        assert of_inputs(quiet) == ""


def test_the_share_outside_is_said_with_what_is_missing_for_an_event() -> None:
    some = entry(outside_share=0.25, columns={"flow": _column("flow moved to 14, learnt were 4.8 to 6.9")})
    assert (
        of_inputs(some)
        == "; 25% of the last windows outside what was learnt (now flow moved to 14, learnt were 4.8 to 6.9)"
    )
    assert of_inputs({**some, "covered_s": 7200.0}).endswith("; a drift counts once 24 h are learnt, 2 h are")


def test_a_drift_is_a_problem_that_says_how_to_accept_it_and_many_are_folded() -> None:
    [(line, [problem])] = problems({"p": {"inputs": OPEN}, "q": {"inputs": entry()}})
    assert not line
    assert problem.startswith("asset p: its inputs have drifted since 2026-06-01 07:46:40 UTC: " + REASON)
    assert problem.endswith(
        "; also temp is constant at 4; if this is the new normal: fedge-agent event accept gw:m:p:drift-k3x9q-1"
    )
    many = list(problems({f"p{i}": {"inputs": OPEN} for i in range(8)}))
    assert len(many) == 6
    assert many[-1][1] == ("the inputs of 3 more assets (p5, p6, p7) have drifted: fedge-agent event list",)
