"""The OPC UA source against asyncua's own server: values, absent tags, restarts, a server that goes silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from fedge_agent.sources.opcua import OpcuaConfig, OpcuaSource
from fedge_agent.types import Quality, Reading
from fedge_models.errors import ConfigError, UnreachableError
from plc import Plc

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Host:
    """Collects what the source hands over."""

    def __init__(self) -> None:
        self.stop, self.changed = threading.Event(), threading.Condition()
        self.readings: list[Reading] = []
        self.alive: list[int] = []
        self.problems: dict[str, str] = {}

    def emit(self, readings: Sequence[Reading], alive_ns: int | None = None) -> None:
        with self.changed:
            self.readings += readings
            self.alive += [alive_ns] if alive_ns else []
            self.changed.notify_all()

    def problem(self, subject: str, text: str | None) -> None:
        with self.changed:
            self.problems.pop(subject, None)
            if text:
                self.problems[subject] = text
            self.changed.notify_all()

    def wait(self, done: Callable[[], bool], timeout: float = 15) -> None:
        with self.changed:
            assert self.changed.wait_for(done, timeout), (self.readings[-3:], self.problems)


class Run:
    """A source running in a thread; `error` is what ended it."""

    def __init__(self, url: str, tags: Sequence[str], **config: Any) -> None:
        self.host, self.error = Host(), None
        self.source = OpcuaSource("plc", OpcuaConfig(url=url, publishing_interval=0.05, **config))
        self.thread = threading.Thread(target=self._run, args=(tags,))
        self.thread.start()

    def _run(self, tags: Sequence[str]) -> None:
        try:
            self.source.run(tags, self.host)
        except Exception as e:
            self.error = e

    def end(self) -> None:
        self.host.stop.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def plc() -> Iterator[Plc]:
    made = Plc()
    yield made
    made.stop()


def url(plc: Plc) -> str:
    return f"opc.tcp://127.0.0.1:{plc.port}/"


def values(host: Host, tag: str) -> list[Any]:
    return [r.value for r in host.readings if r.tag == tag]


def test_every_change_arrives_with_quality_and_time(plc: Plc) -> None:
    plc.add("T", 1.0)
    run = Run(url(plc), ["ns=2;s=T"])
    run.host.wait(lambda: values(run.host, "ns=2;s=T") == [1.0])
    for i in range(40):
        plc.write("T", float(i + 2))
    plc.write("T", 99.0, plc.ua.StatusCodes.BadSensorFailure)
    plc.write("T", 98.0, plc.ua.StatusCodes.UncertainLastUsableValue)
    run.host.wait(lambda: len(run.host.readings) == 43)
    run.end()
    assert values(run.host, "ns=2;s=T")[:41] == [float(i + 1) for i in range(41)]
    assert [r.quality for r in run.host.readings[-2:]] == [Quality.BAD, Quality.UNCERTAIN]
    assert abs(run.host.readings[-1].time_ns / 1e9 - time.time()) < 60
    assert run.host.alive and run.error is None


def test_arrays_booleans_and_text(plc: Plc) -> None:
    plc.add("wave", [1.0, 2.0, 3.0])
    plc.add("on", True)
    plc.add("state", "running")
    run = Run(url(plc), ["ns=2;s=wave", "ns=2;s=on", "ns=2;s=state"])
    run.host.wait(lambda: len(run.host.readings) == 3)
    run.end()
    wave = values(run.host, "ns=2;s=wave")[0]
    assert wave.dtype == np.float32 and wave.tolist() == [1, 2, 3]
    assert values(run.host, "ns=2;s=on") == [1.0] and values(run.host, "ns=2;s=state") == ["running"]


def test_missing_tag_is_named_with_what_is_near_and_found_when_it_appears(
    plc: Plc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedge_agent.sources.opcua.RETRY_ITEMS_S", 0.2)
    plc.add("Pump1.Current", 5.0)
    run = Run(url(plc), ["ns=2;s=Pump1.Current", "ns=2;s=Pump1.Curent"])
    run.host.wait(lambda: "ns=2;s=Pump1.Curent" in run.host.problems)
    assert "ns=2;s=Pump1.Current" in run.host.problems["ns=2;s=Pump1.Curent"]
    run.host.wait(lambda: values(run.host, "ns=2;s=Pump1.Current") == [5.0])
    plc.add("Pump1.Curent", 6.0)
    run.host.wait(lambda: values(run.host, "ns=2;s=Pump1.Curent") == [6.0] and not run.host.problems)
    run.end()


def test_restart_of_the_server_ends_the_run_and_a_fresh_one_goes_on(plc: Plc) -> None:
    plc.add("T", 1.0)
    run = Run(url(plc), ["ns=2;s=T"], max_age=2.0)
    run.host.wait(lambda: bool(run.host.readings))
    port = plc.port
    plc.stop()
    run.thread.join(15)
    assert isinstance(run.error, UnreachableError)
    again = Plc(port)
    again.add("T", 7.0)
    fresh = Run(f"opc.tcp://127.0.0.1:{port}/", ["ns=2;s=T"])
    fresh.host.wait(lambda: values(fresh.host, "ns=2;s=T") == [7.0])
    fresh.end()
    plc.__dict__.update(again.__dict__)  # the fixture stops this one


def test_subscription_that_dies_silently_is_noticed_by_the_age_of_its_data(plc: Plc) -> None:
    plc.add("T", 1.0)
    run = Run(url(plc), ["ns=2;s=T"], max_age=1.5)
    run.host.wait(lambda: bool(run.host.readings))
    plc.mute()
    run.thread.join(15)
    assert isinstance(run.error, UnreachableError) and "no heartbeat" in str(run.error)


def test_more_tags_than_one_call_may_create(plc: Plc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_agent.sources.opcua.DEFAULT_CHUNK", 7)
    tags = [f"T{i}" for i in range(40)]
    for i, tag in enumerate(tags):
        plc.add(tag, float(i))
    run = Run(url(plc), [f"ns=2;s={t}" for t in tags])
    run.host.wait(lambda: len(run.host.readings) == 40)
    run.end()
    assert sorted(r.value for r in run.host.readings) == [float(i) for i in range(40)]


def test_absent_server_says_so() -> None:
    source = OpcuaSource("plc", OpcuaConfig(url="opc.tcp://127.0.0.1:9/"))
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        source.run(["ns=2;s=T"], Host())


def test_check_tries_each_tag(plc: Plc) -> None:
    plc.add("T", 1.0)
    source = OpcuaSource("plc", OpcuaConfig(url=url(plc)))
    assert source.check(["ns=2;s=T"]) == []
    [problem] = source.check(["ns=2;s=T", "ns=2;s=TT"])
    assert "ns=2;s=TT" in problem and "the server has: ns=2;s=T" in problem
    assert "not a node id" in source.check(["Pump1"])[0]


def test_security_needs_its_files() -> None:
    source = OpcuaSource("plc", OpcuaConfig(url="opc.tcp://127.0.0.1:9/", security="Basic256Sha256/Sign"))
    with pytest.raises(ConfigError, match="server_certificate"):
        source.run(["ns=2;s=T"], Host())
