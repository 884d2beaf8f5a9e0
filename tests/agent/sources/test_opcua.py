# SPDX-License-Identifier: Apache-2.0
"""The OPC UA source against asyncua's own server: values, absent tags, restarts, a server that goes silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.types import Quality
from fedge_models.errors import UnreachableError
from support.asyncua_plc import Plc
from support.opcua_source import RunningSource
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def plc() -> Iterator[Plc]:
    made = Plc()
    yield made
    made.stop()


def url(plc: Plc) -> str:
    return f"opc.tcp://127.0.0.1:{plc.port}/"


def test_every_change_arrives_with_quality_and_time(plc: Plc) -> None:
    plc.add("T", 1.0)
    with RunningSource(url(plc), ["ns=2;s=T"]) as run:
        run.host.wait(lambda: run.host.values("ns=2;s=T") == [1.0])
        for i in range(40):
            plc.write("T", float(i + 2))
        plc.write("T", 99.0, plc.ua.StatusCodes.BadSensorFailure)
        plc.write("T", 98.0, plc.ua.StatusCodes.UncertainLastUsableValue)
        run.host.wait(lambda: len(run.host.readings) == 43)
    assert run.host.values("ns=2;s=T")[:41] == [float(i + 1) for i in range(41)]
    assert [r.quality for r in run.host.readings[-2:]] == [Quality.BAD, Quality.UNCERTAIN]
    assert abs(run.host.readings[-1].time_ns / 1e9 - time.time()) < 60
    assert run.host.alive and run.error is None


def test_arrays_booleans_and_text(plc: Plc) -> None:
    plc.add("wave", [1.0, 2.0, 3.0])
    plc.add("on", True)
    plc.add("state", "running")
    with RunningSource(url(plc), ["ns=2;s=wave", "ns=2;s=on", "state"]) as run:
        run.host.wait(lambda: len(run.host.readings) == 3)
    wave = run.host.values("ns=2;s=wave")[0]
    assert wave.dtype == np.float32 and wave.tolist() == [1, 2, 3]
    assert run.host.values("ns=2;s=on") == [1.0] and run.host.values("state") == ["running"]


def test_missing_tag_is_named_with_what_is_near_and_found_when_it_appears(
    plc: Plc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedge_agent.sources.opcua.RETRY_ITEMS_S", 0.2)
    plc.add("Pump1.Current", 5.0)
    with RunningSource(url(plc), ["ns=2;s=Pump1.Current", "ns=2;s=Pump1.Curent"]) as run:
        run.host.wait(lambda: "ns=2;s=Pump1.Curent" in run.host.problems)
        assert "ns=2;s=Pump1.Current" in run.host.problems["ns=2;s=Pump1.Curent"]
        run.host.wait(lambda: run.host.values("ns=2;s=Pump1.Current") == [5.0])
        plc.add("Pump1.Curent", 6.0)
        run.host.wait(lambda: run.host.values("ns=2;s=Pump1.Curent") == [6.0] and not run.host.problems)


def test_check_tries_each_tag(plc: Plc) -> None:
    plc.add("there", 1.0)
    source = OpcuaSource("plc", OpcuaConfig(url=url(plc)))
    assert source.check(["ns=2;s=there"]) == []
    [problem] = source.check(["ns=2;s=there", "ns=2;s=theere"])
    assert "ns=2;s=theere" in problem and "the server has: ns=2;s=there" in problem
    assert "neither a node id nor a browse path" in source.check(["ns=2"])[0]


def test_security_that_the_server_does_not_offer_is_answered_with_what_it_does(plc: Plc, tmp_path: Path) -> None:
    source = OpcuaSource("plc", OpcuaConfig(url(plc), security="Basic256Sha256/Sign"), tmp_path)
    [problem] = source.check(["i=2258"])
    assert problem.endswith("does not offer security 'Basic256Sha256/Sign'; it offers: None")


def test_subscription_that_dies_silently_is_noticed_by_the_age_of_its_data(plc: Plc) -> None:
    plc.add("silent", 1.0)
    with RunningSource(url(plc), ["ns=2;s=silent"], max_age=1.5) as run:
        run.host.wait(lambda: bool(run.host.readings))
        plc.mute()
        run.thread.join(LONGEST_S)
    assert isinstance(run.error, UnreachableError) and "no heartbeat" in str(run.error)


def test_server_that_hangs_is_given_up(plc: Plc) -> None:
    plc.add("hung", 1.0)
    again = threading.Event()
    with RunningSource(url(plc), ["ns=2;s=hung"], timeout=0.5) as run:
        run.host.wait(lambda: bool(run.host.readings))
        plc.block(again)
        run.thread.join(LONGEST_S)
        again.set()
    assert isinstance(run.error, UnreachableError) and "stopped answering" in str(run.error)


def test_restart_of_the_server_ends_the_run_and_a_fresh_one_goes_on(plc: Plc) -> None:
    plc.add("before", 1.0)
    with RunningSource(url(plc), ["ns=2;s=before"], max_age=2.0) as run:
        run.host.wait(lambda: bool(run.host.readings))
        plc.stop()
        run.thread.join(LONGEST_S)
    assert isinstance(run.error, UnreachableError)
    again = Plc(plc.port)
    again.add("before", 7.0)
    with RunningSource(url(again), ["ns=2;s=before"]) as run:
        run.host.wait(lambda: run.host.values("ns=2;s=before") == [7.0])
    plc.__dict__.update(again.__dict__)  # the fixture stops this one


def test_absent_server_says_so(tmp_path: Path) -> None:
    source = OpcuaSource("plc", OpcuaConfig(url="opc.tcp://127.0.0.1:9/"))
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9/: nothing listens there"):
        source.run(["ns=2;s=T"], RecordingHost(tmp_path))
