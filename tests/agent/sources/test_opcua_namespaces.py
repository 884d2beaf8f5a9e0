# SPDX-License-Identifier: Apache-2.0
"""OPC UA servers that number their namespaces anew: a tag stays with its node, and says so; what is gone is bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.opcua.namespaces import Namespaces
from fedge_agent.protocols.opcua.tags import parse
from fedge_agent.sources import opcua
from fedge_agent.types import Quality
from support.asyncua_plc import Plc
from support.opcua_source import RunningSource

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

UA, OWN, P, Q = "http://opcfoundation.org/UA/", "urn:server", "urn:p", "urn:q"
URL = "opc.tcp://plc:4840"
OVERFLOW = 0x480  # Good, with the overflow bit of a data value


def placed(spaces: Namespaces, *tags: str, array: tuple[str, ...] = (UA, OWN, P, Q)) -> list[Any]:
    made = spaces.place([parse(t) for t in tags], array)
    return [made.tags, made.lost, made.moved]


def test_a_tag_follows_its_namespace_to_another_index() -> None:
    spaces = Namespaces(URL)
    tags = ["ns=2;s=A", "/Objects/2:P/3:A", "2:P/A", "ns=1;s=A", "nsu=urn:p;s=A", "P/A"]
    assert placed(spaces, *tags) == [[parse(t) for t in tags], {}, {}]
    made, lost, moved = placed(spaces, *tags, array=(UA, OWN, Q, P))
    assert [t.text for t in made] == tags and not lost  # by which others know them
    assert made[0].node == "ns=3;s=A" and [e.space for e in made[1].path] == [0, 3, 2]
    assert [e.space for e in made[2].path] == [3, None] and made[3:] == [parse(t) for t in tags[3:]]
    assert moved == {
        "'urn:p' was ns=2 and is ns=3 now": tags[:3],
        "'urn:q' was ns=3 and is ns=2 now": ["/Objects/2:P/3:A"],
    }
    assert placed(spaces, *tags)[2] == {}  # and back


def test_a_namespace_that_is_gone_is_not_read_at_its_old_index() -> None:
    spaces = Namespaces(URL)
    placed(spaces, "ns=2;s=A")
    made, lost, moved = placed(spaces, "ns=2;s=A", "ns=3;s=B", array=(UA, OWN, "urn:new", Q))
    assert made == [parse("ns=3;s=B")] and not moved
    assert "has no namespace 'urn:p' any more, which ns=2 was when it was first read" in lost["ns=2;s=A"]


def test_what_is_remembered_outlives_restarts_and_is_of_one_server(tmp_path: Path) -> None:
    path = tmp_path / "plc" / "namespaces.json"
    placed(Namespaces(URL, path), "ns=2;s=A")
    swapped = (UA, OWN, Q, P)
    assert placed(Namespaces(URL, path), "ns=2;s=A", array=swapped)[0][0].node == "ns=3;s=A"
    assert placed(Namespaces(URL, path), "ns=2;s=B", array=swapped)[0][0].node == "ns=2;s=B"  # a tag that is new
    assert placed(Namespaces("opc.tcp://other", path), "ns=2;s=A", array=swapped)[0][0].node == "ns=2;s=A"
    path.write_bytes(b"\0{")
    assert placed(Namespaces(URL, path), "ns=2;s=A", array=swapped)[0][0].node == "ns=2;s=A"


def test_an_index_that_the_server_does_not_have_is_asked_for_as_it_is() -> None:
    spaces = Namespaces(URL)
    assert placed(spaces, "ns=9;s=A") == [[parse("ns=9;s=A")], {}, {}]
    assert placed(spaces, "ns=2;s=A", array=()) == [[parse("ns=2;s=A")], {}, {}]


def test_a_server_that_comes_back_with_other_indexes_gives_the_same_node(tmp_path: Path) -> None:
    first = Plc(spaces=(P, Q))
    try:
        first.add("A", 1.0)
        url = f"opc.tcp://127.0.0.1:{first.port}/"
        with RunningSource(url, ["ns=2;s=A"], tmp_path) as run:
            run.host.wait(lambda: run.host.values("ns=2;s=A") == [1.0])
    finally:
        first.stop()
    second = Plc(first.port, (Q, P))
    try:
        second.add("A", -5.0)
        second.add("A", 2.0, 3)
        with RunningSource(url, ["ns=2;s=A"], tmp_path) as run:
            run.host.wait(lambda: run.host.values("ns=2;s=A") == [2.0])
            assert "namespace 'urn:p' was ns=2 and is ns=3 now: ns=2;s=A" in run.host.problems["namespaces"]
            assert [r.tag for r in run.host.readings] == ["ns=2;s=A"]
            (said,) = [p for p in run.source.check(["ns=2;s=A"]) if p]
            assert "'urn:p' was ns=2 and is ns=3 now" in said
    finally:
        second.stop()


def test_a_tag_that_is_missing_after_a_new_connection_is_bad(tmp_path: Path) -> None:
    plc = Plc()
    try:
        plc.add("A", 1.0)
        plc.add("B", 1.0)
        url, tags = f"opc.tcp://127.0.0.1:{plc.port}/", ["ns=2;s=A", "ns=2;s=B"]
        with RunningSource(url, tags) as run:
            run.host.wait(lambda: run.host.values("ns=2;s=B") == [1.0])
        plc.call(plc.server.delete_nodes([plc.nodes["B"]]))
        run.host.stop.clear()
        run.host.batches.clear()
        again = RunningSource.again(run, tags)
        with again:
            again.host.wait(lambda: any(r.tag == "ns=2;s=B" for r in again.host.readings))
            bad = [r for r in again.host.readings if r.tag == "ns=2;s=B"]
            assert [r.quality for r in bad] == [Quality.BAD] and "BadNodeIdUnknown" in again.host.problems["ns=2;s=B"]
    finally:
        plc.stop()


def test_values_lost_at_the_server_are_counted_and_the_problem_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcua, "QUIET_S", 1.5)
    plc = Plc()
    try:
        plc.add("A", 1.0)
        with RunningSource(f"opc.tcp://127.0.0.1:{plc.port}/", ["ns=2;s=A"]) as run:
            run.host.wait(lambda: run.host.values("ns=2;s=A") == [1.0])
            for value in (2.0, 3.0):
                plc.write("A", value, OVERFLOW)
                run.host.wait(lambda value=value: run.host.values("ns=2;s=A")[-1:] == [value])  # type: ignore[misc]
                assert "values are lost at the server before they are sent" in run.host.problems["overflow"]
            assert run.host.counts["lost_at_server"] == 2
            run.host.wait(lambda: "overflow" not in run.host.problems)
    finally:
        plc.stop()
