# SPDX-License-Identifier: Apache-2.0
"""The outcome of a rehearsal for people: lines of text, or a page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from fedge_models.system.text import counted, printable

from ..report import Report, Table, render
from .outcome import GatewayResult, Outcome

WIDTH = 14  # of the names of figures
SHOWN = 400  # characters of a request


def lines(found: Outcome) -> Iterator[str]:
    """The whole report."""
    yield f"rehearsal of {found.folder}: {found.seconds:.0f} s at {found.speed:g} times real time"
    for name, gateway in found.gateways.items():
        yield ""
        yield f"gateway {name} ({gateway.file})"
        for title, text in rows(gateway):
            yield f"  {title.ljust(WIDTH)} {printable(text)}"
    for name, federation in found.federations.items():
        yield ""
        after = f"of the round after these: {federation.waiting}"  # which was open at the end
        yield f"federation {name}: {counted(federation.rounds, 'round')}, {federation.rule}; {after}"
        yield from (f"  PROBLEM {problem}" for problem in federation.problems)
    if found.aggregator_memory_mib is not None and found.aggregator_cpu_s is not None:
        memory, cpu = found.aggregator_memory_mib, found.aggregator_cpu_s
        yield f"aggregator: {memory:.0f} MiB at most, {cpu:.1f} s of processor time"
    yield ""
    yield "not as in your files:"
    yield from (f"  {printable(word)}" for word in found.differs)
    yield ""
    if found.failed is not None:
        yield from ("PROBLEM " + found.failed).splitlines()
    yield f"{counted(found.problems, 'problem')}" if found.problems else "no problem"


def rows(gateway: GatewayResult) -> Iterator[tuple[str, str]]:
    """The figures of one gateway, each with its name."""
    yield "decided", f"{counted(gateway.decided, 'window')}{_each(gateway.windows)}"
    yield "events", f"{sum(gateway.events.values())} opened{_each(gateway.events)}"
    for output in gateway.outputs:
        yield "would send", _output(output)
        if output["example"]:
            yield "e.g.", _short(output["example"])
    if not gateway.outputs:
        yield "would send", "nothing: there is no output"
    yield "samples", ", ".join(f"{n:,} of {model}" for model, n in gateway.samples.items()) or "none"
    for federation, releases in gateway.rounds.items():
        yield "rounds", f"{federation}: {len(releases)}" + (f", in releases {_spans(releases)}" if releases else "")
    for model, text in gateway.serves.items():
        yield "serves", f"{model}: {text}"
    for source, count in gateway.replayed.items():
        read = min(gateway.readings.get(source, 0), count)
        yield "replayed", f"{source}: {read:,} of {count:,} values{_unusable(gateway, source)}"
    for source, count in gateway.readings.items():
        if source not in gateway.replayed:  # a server sends a value when it changes
            yield "served", f"{source}: {counted(count, 'reading')}{_unusable(gateway, source)}"
    if gateway.memory_mib is not None and gateway.cpu_s is not None and gateway.cpu_share is not None:
        cpu = f"{gateway.cpu_s:.1f} s of processor time ({gateway.cpu_share:.0%} of a core)"
        yield "needs", f"{gateway.memory_mib:.0f} MiB at most, {cpu}"
    yield "bytes", _bytes(gateway)
    yield from (("status", line) for line in gateway.status)
    yield from (("PROBLEM", problem) for problem in gateway.problems)
    yield from (("was a problem", f"from {at:.0f} s on, and over at the end: {p}") for p, at in gateway.passed.items())


def page(found: Outcome) -> str:
    """The same as one HTML file."""
    federations = [[n, str(f.rounds), f.rule, f.waiting, "; ".join(f.problems)] for n, f in found.federations.items()]
    end = [[found.failed]] if found.failed else []
    problems = [*end, [counted(found.problems, "problem") if found.problems else "no problem"]]
    tables = [
        *(Table(f"Gateway {n}", ["what", "figures"], [list(row) for row in rows(g)], words=True)
          for n, g in found.gateways.items()),
        Table("Federations", ["federation", "rounds", "rule", "of the round after these", "problems"], federations,
              words=True),
        Table("Not as in your files", ["setting"], [[word] for word in found.differs], words=True),
        Table("Problems", ["problem"], problems, words=True),
    ]  # fmt: skip
    return render(Report(f"Rehearsal of {found.folder}", tables))


def _output(output: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{output[kind]} {kind}" for kind in ("opened", "raised", "cleared") if output[kind])
    below = f"; {counted(output['below'], 'event')} below its severity" if output["below"] else ""
    named = f"{output['output']} ({output['target']})"
    return f"{named}: {counted(output['total'], 'event')}{f' ({counts})' if counts else ''}{below}"


def _short(request: Mapping[str, Any]) -> str:
    """A request on one line, cut."""
    text = msgspec.json.encode(request).decode()
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} … (--json has it whole)"


def _each(counts: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{name} {n:,}' for name, n in counts.items())})" if len(counts) > 1 else ""


def _spans(numbers: list[int]) -> str:
    """Numbers as people write them: 2 to 5, 7."""
    spans: list[list[int]] = []
    for n in numbers:
        if spans and n == spans[-1][1] + 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in spans)


def _unusable(gateway: GatewayResult, source: str) -> str:
    return "".join(f"; {n:,} {what}" for what, n in gateway.unusable.get(source, {}).items())


def _bytes(gateway: GatewayResult) -> str:
    text = f"{_size(gateway.bytes_up)} up, {_size(gateway.bytes_down)} down"
    if gateway.bytes_per_round is None or gateway.bytes_per_day is None:
        return text
    a_round, a_day = _size(gateway.bytes_per_round), _size(gateway.bytes_per_day)
    return f"{text}: {a_round} a round, {a_day} a day at the configured interval"


def _size(count: float) -> str:
    for unit in ("bytes", "KiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} MiB"
