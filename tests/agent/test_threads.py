# SPDX-License-Identifier: Apache-2.0
"""Every thread has a guard: what goes wrong in it is stated in words, and it goes on or its work ends openly."""

from __future__ import annotations

import ast
import http.client
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fedge_agent.app import App
from fedge_agent.config import schema as agent_config
from fedge_agent.outputs.sparkplug import SparkplugConfig, SparkplugOutput
from fedge_agent.protocols.mqtt.broker import Broker
from fedge_agent.protocols.mqtt.connection import Connection
from fedge_agent.protocols.opcua.loop import Loop
from fedge_models.errors import UnreachableError
from fedge_models.system.service import Page
from fedge_models.system.worker import Worker
from support.at_end import AtEnd
from support.mqtt_wire import WireBroker
from support.offline_site import OfflineSite
from support.paths import ROOT
from support.waiting import LONGEST_S, until

STARTS = {"Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "start_new_thread", "to_thread", "loop_start"}
STARTS |= {"run_in_executor", "ThreadingHTTPServer", "ThreadingTCPServer", "ThreadingMixIn"}
GUARDED = {
    "models/fedge_models/system/worker.py": {"Thread"},  # the guard itself
    "models/fedge_models/system/service.py": {"ThreadingHTTPServer"},  # a thread a request: an error is its answer
    "agent/fedge_agent/protocols/mqtt/connection.py": {"loop_start"},  # paho's thread: an error ends the connection
}


def starts(path: Path) -> set[str]:
    """What of `STARTS` a file names as code."""
    nodes = ast.walk(ast.parse(path.read_text()))
    names = {
        n.attr if isinstance(n, ast.Attribute) else n.id for n in nodes if isinstance(n, (ast.Attribute, ast.Name))
    }
    return names & STARTS


def test_nothing_but_the_worker_starts_threads() -> None:
    files = [*(ROOT / "agent/fedge_agent").rglob("*.py"), *(ROOT / "models/fedge_models").rglob("*.py")]
    found = {str(path.relative_to(ROOT)): starts(path) for path in files}
    assert {path: names for path, names in found.items() if names} == GUARDED


@contextmanager
def running(folder: Path, broker: WireBroker) -> Iterator[App]:
    """An agent with every kind of thread that needs no counterpart."""
    (folder / "gw.toml").write_text(
        f"""
[agent]
name = "gw"
state = "{folder}/state"
status = "127.0.0.1:0"
[source.log]
type = "files"
path = "{folder}/log.csv"
time_column = "time"
tail = true
[model.m]
file = "{folder}/m.onnx"
[asset.pump]
model = "m"
channels.temp = {{ source = "log", tag = "temp" }}
[output.scada]
type = "sparkplug"
url = "{broker.url}"
group = "plant"
node = "gw"
"""
    )
    app, interval = App(agent_config.load(folder / "gw.toml"), folder / "gw.toml"), sys.getswitchinterval()
    thread = threading.Thread(target=app.run)
    thread.start()
    try:
        yield app
    finally:
        app.stop()
        thread.join(LONGEST_S)
        sys.setswitchinterval(interval)


def guard(thread: threading.Thread) -> object:
    """The worker that runs a thread, or the library whose thread has a guard of ours."""
    target = getattr(thread, "_target", None)
    owner = getattr(target, "__self__", None)
    return owner if isinstance(owner, Worker) else getattr(target, "__module__", None)


def test_every_thread_of_a_running_agent_has_a_guard(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with WireBroker() as broker:
        ours = {*before, *threading.enumerate()}
        with running(tmp_path, broker):
            mine = [t for t in threading.enumerate() if t.name.startswith("Thread-") and t not in ours]
            broker.wait(lambda _: broker.publishes("NBIRTH"), "the births")  # an output begins before the sources
            until(lambda: "source-log" in {t.name for t in threading.enumerate()}, "the last thread to begin")
            found = {t.name: guard(t) for t in threading.enumerate() if t not in ours and t not in mine}
    names = {
        "samples",
        "labels",
        "questions",
        "event book",
        "page",
        "progress",
        "events",
        "model-m",
        "source-log",
        "output-scada",
    }
    workers = {name for name, owner in found.items() if isinstance(owner, Worker)}
    assert workers == {*names, "sparkplug-scada"}
    assert {owner for owner in found.values() if not isinstance(owner, Worker)} == {"paho.mqtt.client"}, found


def test_an_error_in_the_thread_of_a_model_is_its_problem_and_the_thread_goes_on(
    at_end: AtEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = at_end(OfflineSite(tmp_path))
    made, steps = site.participant(), threading.Semaphore(0)

    def fail() -> None:
        steps.release()
        raise OverflowError("int too big")

    monkeypatch.setattr(made, "restore", fail)
    monkeypatch.setattr(made, "step", fail)
    made.start()
    try:
        for _ in range(3):
            assert steps.acquire(timeout=LONGEST_S)
        assert "OverflowError: int too big" in made.status()["problem"] and made.restored.is_set()
    finally:
        made.stop()


def test_an_error_while_following_the_primary_host_is_a_problem_until_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state = json.dumps({"online": True, "timestamp": 1}).encode()
    with WireBroker() as broker:
        config = SparkplugConfig(url=broker.url, group="plant", node="gw1", primary_host="scada", timeout=0.2)  # type: ignore[arg-type]
        node, follow = SparkplugOutput("x", config), SparkplugOutput._follow
        monkeypatch.setattr(node, "_follow", dict[object, None]().__getitem__)
        try:
            with pytest.raises(UnreachableError, match="scada"):
                node.begin(tmp_path)
            broker.send("spBv1.0/STATE/scada", state)
            until(lambda: "KeyError" in str(node.status().get("problem")), "the problem")
            monkeypatch.setattr(node, "_follow", lambda primary: follow(node, primary))
            broker.wait(lambda _: broker.publishes("NBIRTH"), "the births")
            until(lambda: not node.status(), "no problem")
        finally:
            node.end()


def test_an_error_in_the_thread_of_the_mqtt_client_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OverflowError("int too big")

    monkeypatch.setattr(Connection, "_on_subscribe", fail)
    with WireBroker() as broker:
        connection = Connection(Broker(url=broker.url))
        connection.open()
        try:
            with pytest.raises(UnreachableError, match="the client failed: unexpected OverflowError: int too big"):
                connection.subscribe(["plant/#"])
        finally:
            connection.close()


def test_a_page_that_fails_says_so_and_the_next_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    page = Page(("127.0.0.1", 0), lambda: b"", lambda: dict[str, int]()["sources"], lambda: True)
    page.start()
    try:
        answers = []
        for path in ("/status", "/healthz"):
            connection = http.client.HTTPConnection(page.address, timeout=LONGEST_S)
            connection.request("GET", path)
            answer = connection.getresponse()
            answers.append((answer.status, answer.read()))
            connection.close()
        assert answers == [(500, b"unexpected KeyError: 'sources'; see the log\n"), (200, b"ok\n")]
    finally:
        page.stop()


def test_a_loop_of_opc_ua_ends_when_it_is_stopped() -> None:
    async def answer() -> int:
        return 1

    loop = Loop("plc")
    assert loop.call(answer(), LONGEST_S) == 1
    loop.stop()
    assert "opcua-plc" not in {t.name for t in threading.enumerate()}
