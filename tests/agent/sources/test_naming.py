# SPDX-License-Identifier: Apache-2.0
"""Messages about tags name asset and channel, a few of many, and count the others."""

from __future__ import annotations

from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.naming import SHOWN, Names
from fedge_agent.sources.registry import build

MANY = Names({f"ns=2;s=T{i}": [f"press-{i}.temp"] for i in range(1500)})


def test_a_tag_is_named_with_who_reads_it() -> None:
    names = Names({"T": ["press.temp"], "U": ["press.flow", "pump.flow", "press.context.job"]})
    assert names.about(["T"]) == "press.temp (T)"
    assert names.about(["T", "U"]) == "press.temp (T), press.flow and 2 more (U)"
    assert names.about(["not configured"]) == "not configured"


def test_five_are_named_and_the_others_counted() -> None:
    text = MANY.about([f"ns=2;s=T{i}" for i in range(1500)])
    assert text.count("press-") == SHOWN and text.endswith("press-4.temp (ns=2;s=T4) and 1,495 more")


def test_problems_of_one_kind_are_one() -> None:
    problems = {f"ns=2;s=T{i}": f"opc.tcp://plc: tag ns=2;s=T{i}: BadNodeIdUnknown" for i in range(501)}
    problems["connection"] = "opc.tcp://plc: slow"
    grouped = MANY.grouped(problems)
    assert grouped["connection"] == "opc.tcp://plc: slow" and len(grouped) == 2
    text = grouped["ns=2;s=T0"]
    assert text.startswith("press-0.temp (ns=2;s=T0), ") and text.endswith(
        "and 496 more: opc.tcp://plc: BadNodeIdUnknown"
    )
    assert len(text) < 300


def test_problems_of_many_kinds_are_five_and_a_count() -> None:
    problems = {f"ns=2;s=T{i}": f"tag ns=2;s=T{i}: nothing is called T{i}" for i in range(501)}
    grouped = MANY.grouped(problems)
    assert len(grouped) == SHOWN + 1
    assert grouped["ns=2;s=T5"].endswith("and 491 more: other problems of this kind")
    assert len(MANY.grouped(dict(list(problems.items())[: SHOWN + 1]))) == SHOWN + 1  # six are not cut to five


def test_a_check_folds_its_problems_too() -> None:
    problems = [f"opc.tcp://plc: tag ns=2;s=T{i}: BadNotReadable" for i in range(9)]
    assert len(MANY.folded(["the server is slow", *problems])) == 2


def test_the_page_of_a_source_names_assets_and_escapes_what_a_server_says() -> None:
    source = build("csv", {"type": "files", "path": "absent.csv"}, "test")
    hosted = HostedSource("plc", source, ["T"], Queue(1), names=Names({"T": ["press.temp"]}))
    hosted.problem("T", "opc.tcp://plc: tag T: there is: \x1b[2Jevil")
    assert hosted.status()["problems"] == {"T": r"press.temp (T): opc.tcp://plc: there is: \x1b[2Jevil"}
    assert hosted.about(["T"]) == "press.temp (T)"
