# SPDX-License-Identifier: Apache-2.0
"""A server that is asked: values, gaps, words for what goes wrong, and the context of decisions."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.sources.http import HttpConfig, HttpSource
from fedge_agent.types import Quality
from fedge_models.errors import ConfigError, FedgeError, RefusedError, RetryError
from fedge_models.system import times
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.recording_host import RecordingHost

TAGS = ["/job", "/product/code", "/speed", "/running"]
JOB = {"job": "J-17", "product": {"code": "P4"}, "speed": 12.5, "running": True, "at": "2026-03-01T06:00:00Z"}


@contextmanager
def server(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Gives each answer once and the last for ever; what it was asked with."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_address[1]}/job?line=1", asked
    finally:
        made.shutdown()
        made.server_close()
        thread.join()


def source(url: str, **more: Any) -> HttpSource:
    return HttpSource("erp", HttpConfig(url=url, poll=0.01, **more))  # type: ignore[arg-type]


def answer(value: Any) -> tuple[int, bytes]:
    return 200, json.dumps(value).encode()


def test_each_answer_is_a_set_of_readings(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    host = RecordingHost(tmp_path, stop_after=3)
    with server(answer(JOB), answer({**JOB, "job": "J-18"})) as (url, asked):
        source(url, token_file=tmp_path / "token", time="/at").run(TAGS, host)
    assert asked == ["Bearer s3cret"] * 3
    first, second, _ = ([r.value for r in batch] for batch, _ in host.batches)
    assert first == ["J-17", "P4", 12.5, 1.0] and second[0] == "J-18"
    at, changed, same = [alive for _, alive in host.batches if alive is not None]
    assert 1772344800 * 10**9 == at < changed == same < at + 60 * 10**9  # the answer's own time stands still
    assert [{r.time_ns for r in batch} for batch, _ in host.batches] == [{at}, {changed}, {changed}]
    assert host.problems == {} and not host.counts


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "x" * 257, 1e301], ids=str)
def test_what_is_no_value_is_a_gap_of_that_tag(tmp_path: Path, value: Any) -> None:
    host = RecordingHost(tmp_path, stop_after=1)
    with server(answer({**JOB, "job": value})) as (url, _):
        source(url).run(TAGS, host)
    assert [r.quality for r in host.readings] == [Quality.BAD] + [Quality.GOOD] * 3
    assert host.counts["absent"] == 1 and "/job" in host.problems


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((200, b"<html><title>Log in</title>"), RetryError, "Log in"),
        ((200, b"{"), RetryError, "expected JSON"),
        ((200, b"[" * 100_000), RetryError, "JSON"),
        ((200, b'"' + b"x" * 1_100_000 + b'"'), RetryError, "more than"),
        ((302, b""), RetryError, "redirects"),
        ((401, b""), RetryError, "not accepted"),
        ((404, b""), RetryError, "nothing at this address"),
        ((422, b"no"), RefusedError, "422"),
        ((503, b""), RetryError, "503"),
        (answer({**JOB, "at": "yesterday"}), RetryError, "neither ISO 8601"),
        (answer({**JOB, "at": 1e400}), RetryError, "expected JSON"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_an_answer_that_cannot_be_used_is_reported_in_words(
    tmp_path: Path, answer: tuple[int, bytes], error: type[FedgeError], words: str
) -> None:
    host = RecordingHost(tmp_path)
    with server(answer) as (url, _), pytest.raises(error, match=words) as caught:
        source(url, time="/at").run(TAGS, host)
    assert "line=1" not in str(caught.value)  # a query may hold a key
    assert host.batches == []


def test_nobody_there_and_wrong_configurations_are_reported(tmp_path: Path) -> None:
    with server(answer(JOB)) as (url, _):
        assert source(url).check(TAGS) == []
        assert "/nothing" in source(url).check(["/nothing"])[0]
        assert "no JSON pointer" in source(url).check(["job"])[0]
    assert "refused" in source(url).check(TAGS)[0]
    for wrong in (
        HttpConfig(url="ftp://a/b"),
        HttpConfig(url="http://u:p@a/b"),
        HttpConfig(url="http://a/b", time="at"),
    ):
        with pytest.raises(ConfigError):
            HttpSource("erp", wrong)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | st.just(10**400),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=2), v, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(200), deadline=None)
@given(values, values)
def test_any_answer_gives_one_reading_a_tag_or_an_error_of_ours(answer: Any, stamp: Any) -> None:
    source = HttpSource("meter", HttpConfig(url="http://127.0.0.1:1/", time="/ts"))
    tags = ["/v", "/v/0", "/v/a/b", "/ts", "/00000000000000000000", ""]
    try:
        readings, time_ns = source._readings(tags, {"v": answer, "ts": stamp})
    except RetryError as e:
        assert len(str(e)) < 300
        return
    assert [r.tag for r in readings] == tags and 0 <= time_ns < times.latest_ns()
    for reading in readings:
        number = isinstance(reading.value, float) and math.isfinite(reading.value)
        text = isinstance(reading.value, str) and len(reading.value) <= 256
        assert number or text or reading.quality is Quality.BAD


@pytest.mark.parametrize("unit", [None, "ms"])
@pytest.mark.parametrize("stamp", [1_700_000_000_250, "1700000000250"])
def test_a_meter_that_gives_milliseconds_is_read_at_their_time(stamp: object, unit: times.Unit | None) -> None:
    source = HttpSource("meter", HttpConfig(url="http://127.0.0.1:1/", time="/ts", time_unit=unit))
    _, time_ns = source._readings(["/v"], {"v": 1.0, "ts": stamp})
    assert time_ns == 1_700_000_000_250_000_000
    if unit is None:
        with pytest.raises(RetryError, match=r"time at /ts: time stamp 46350\.5 is .*may be 'excel'"):
            source._readings(["/v"], {"v": 1.0, "ts": 46350.5})
    with pytest.raises(RetryError, match="time at /ts: time stamp True is neither"):
        source._readings(["/v"], {"v": 1.0, "ts": True})
