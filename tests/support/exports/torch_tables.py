# SPDX-License-Identifier: Apache-2.0
"""The tables of what comes of PyTorch's files, and what they say of a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from .exporting import WAYS, Way
from .parts import NOT_EXPORTED, REFUSED, TRAINS, WRONG, Row, rows, table
from .registry import GROUPS
from .verdict import Outcome

PART = "networks of PyTorch"
COUNTS = "Files of PyTorch"  # headings of the page
REASONS = "What of PyTorch does not train, and why"
COLUMNS = list(dict.fromkeys((way.exporter, way.batch) for way in WAYS))
ROOMS = (  # whose part of the code a reason belongs to, by its words
    (r"not aligned|do not fit each other", "the exporter: ONNX Runtime cannot load the file"),
    (r"has no gradient here|cannot be run|not autograd's|difference quotient|is not ONNX Runtime's", "`ops`"),
    (r"outputs|promises|logit|float16|opset", "`graph/intake`: conversion"),
    (r"a gateway gives|time axis|channels", "`graph/intake`: layout"),
    (r"fixed dimensions|batch of one", "`graph/intake`: shapes"),
    (r"matches|by its head", "`graph/intake`: names"),
)


def heading(group: str) -> str:
    """The heading of the table of a group of networks."""
    return f"Networks on {group}"


def tables(outcomes: Sequence[Outcome]) -> str:
    """The counts, a table of each group of networks, and the reasons of what does not train."""
    parts = [f"## {COUNTS}", counts(outcomes)]
    for title, networks in GROUPS.items():
        lines = [_row(name, [o for o in outcomes if o.network == name]) for name in networks]
        heads = [f"{exporter}, {batch} batch" for exporter, batch in COLUMNS]
        parts += [f"## {heading(title)}", table(("network", *heads, "by its head"), lines)]
    return "\n\n".join([*parts, f"## {REASONS}", _reasons(outcomes)])


def counts(outcomes: Sequence[Outcome]) -> str:
    """How many files came out in which way."""
    lines = [_counted(str(way), [o for o in outcomes if o.way == way]) for way in WAYS]
    verdicts = (TRAINS, REFUSED, WRONG, NOT_EXPORTED)
    head = ("exporter, batch, weights", "files", "with a free batch", *verdicts, "trains by its head")
    return table(head, [*lines, _counted("all", outcomes)])


def _counted(title: str, outcomes: Sequence[Outcome]) -> Row:
    by = Counter(o.verdict for o in outcomes)
    verdicts = (by[v] for v in (TRAINS, REFUSED, WRONG, NOT_EXPORTED))
    return (title, len(outcomes), sum(o.free for o in outcomes), *verdicts, sum(o.head == TRAINS for o in outcomes))


def _row(name: str, found: Sequence[Outcome]) -> Row:
    cells = [_words({o.way: o.verdict for o in found if (o.way.exporter, o.way.batch) == c}) for c in COLUMNS]
    return (name, *cells, _words({o.way: o.head for o in found}))


def _words(verdicts: Mapping[Way, str]) -> str:
    """The verdict, or each with the states, exporters, batches or ways that it is about."""
    if len(set(verdicts.values())) <= 1:
        return next(iter(verdicts.values()), "")
    for field in ("state", "exporter", "batch"):
        by: dict[str, set[str]] = {}
        for way, verdict in verdicts.items():
            by.setdefault(getattr(way, field), set()).add(verdict)
        if all(len(v) == 1 for v in by.values()):
            return ", ".join(f"{k}: {v.pop()}" for k, v in by.items())
    return ", ".join(f"{' '.join(way)}: {verdict}" for way, verdict in verdicts.items())


def said_of(text: str, network: str, way: Way) -> str:
    """The verdict that a page gives a network that was exported in a way; empty where it was not tried."""
    return _said(_line(text, network)[1 + COLUMNS.index((way.exporter, way.batch))], way)


def head_said_of(text: str, network: str, way: Way) -> str:
    """The same of the head trained alone."""
    return _said(_line(text, network)[-1], way)


def _line(text: str, network: str) -> list[str]:
    lines = [each for title in GROUPS for each in rows(text, heading(title)) if each[0] == network]
    assert len(lines) == 1, f"the page has {len(lines)} rows of {network}; run: make exports-page"
    return lines[0]


def _said(cell: str, way: Way) -> str:
    """The verdict in a cell that `_words` wrote."""
    if ": " not in cell:
        return cell
    said = dict(each.split(": ") for each in cell.split(", "))
    return next(said[key] for key in (way.state, way.exporter, way.batch, " ".join(way)) if key in said)


def _reasons(outcomes: Sequence[Outcome]) -> str:
    found: dict[tuple[str, str], list[Outcome]] = {}
    for o in outcomes:
        if o.why:
            found.setdefault((o.head if o.verdict == TRAINS else o.verdict, _plain(o.why)), []).append(o)
    order = sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    lines = [(len(of), verdict, why, room(verdict, why), of[0].network) for (verdict, why), of in order]
    return table(("files", "outcome", "reason", "room", "for example"), lines)


def _plain(why: str) -> str:
    """A reason without the names that an exporter has made up, so that equal ones share a row."""
    why = re.sub(r"'[^']*'", "…", why)
    why = re.sub(r"has \d+ outputs: .*?\)\. ", "has several outputs: …. ", why)
    why = re.sub(r"(by its head: )[\w.*,]+ matches \d+ of \d+", r"\1the patterns match some of the", why)
    why = re.sub(r"gradient of \S+", "gradient of …", why)
    return re.sub(r"(off by|slope of the rest is|quotient) [-+.\de]+", r"\1 …", why)


def room(verdict: str, why: str) -> str:
    """Which part of the code a reason belongs to."""
    if verdict == NOT_EXPORTED:
        return "the exporter"
    return next((name for words, name in ROOMS if re.search(words, why)), "")
