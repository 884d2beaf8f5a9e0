# SPDX-License-Identifier: Apache-2.0
"""Write what comes of each exported network into the documentation: `make exports-page`, some ten minutes."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from support.counterparts import counterpart
from support.paths import ROOT

from .exporting import WAYS, Way
from .registry import GROUPS, cases, run
from .verdict import NOT_EXPORTED, REFUSED, TRAINS, WRONG, Outcome

torch, onnxscript = counterpart("torch"), counterpart("onnxscript")
PAGE = ROOT / "docs/reference/exports.md"
PART = re.compile(r"(<!-- exports: (.*?) -->\n).*(<!-- end of exports -->)", re.S)
VERSIONS = f"torch {torch.__version__.partition('+')[0]}, onnxscript {onnxscript.__version__}"
COLUMNS = list(dict.fromkeys((way.exporter, way.batch) for way in WAYS))
Row = Sequence[object]
ROOMS = (  # whose part of the code a reason belongs to, by its words
    (r"not aligned", "the exporter: ONNX Runtime cannot load the file"),
    (r"has no gradient here|cannot be run|not autograd's|difference quotient|is not ONNX Runtime's", "`ops`"),
    (r"outputs|promises|logit|float16|opset", "`graph/intake`: conversion"),
    (r"a gateway gives|time axis|channels", "`graph/intake`: layout"),
    (r"fixed dimensions|batch of one", "`graph/intake`: shapes"),
    (r"matches|by its head", "`graph/intake`: names"),
)


def tables(outcomes: Sequence[Outcome]) -> str:
    """The counts, a table of each group of networks, and the reasons of what does not train."""
    parts = [_counts(outcomes)]
    for title, networks in GROUPS.items():
        rows = [_row(name, [o for o in outcomes if o.network == name]) for name in networks]
        heads = [f"{exporter}, {batch} batch" for exporter, batch in COLUMNS]
        parts += [f"## Networks on {title}", _table(("network", *heads, "by its head"), rows)]
    return "\n\n".join([*parts, "## What does not train, and why", _reasons(outcomes)])


def _counts(outcomes: Sequence[Outcome]) -> str:
    verdicts = (TRAINS, REFUSED, WRONG, NOT_EXPORTED)
    rows = []
    for way in WAYS:
        found = Counter(o.verdict for o in outcomes if o.way == way)
        heads = sum(o.head == TRAINS for o in outcomes if o.way == way)
        rows.append((str(way), found.total(), *(found[v] for v in verdicts), heads))
    total = Counter(o.verdict for o in outcomes)
    rows.append(("all", len(outcomes), *(total[v] for v in verdicts), sum(o.head == TRAINS for o in outcomes)))
    return _table(("exporter, batch, weights", "files", *verdicts, "trains by its head"), rows)


def _row(name: str, found: Sequence[Outcome]) -> Row:
    cells = [_cell([o for o in found if (o.way.exporter, o.way.batch) == column]) for column in COLUMNS]
    return (name, *cells, _words({o.way: o.head for o in found}))


def _cell(found: Sequence[Outcome]) -> str:
    return _words({o.way: o.verdict for o in found}) if found else ""


def _words(verdicts: dict[Way, str]) -> str:
    """The verdict, or each with the states or exporters that it is about."""
    if len(set(verdicts.values())) == 1:
        return next(iter(verdicts.values()))
    for field in ("state", "exporter", "batch"):
        by: dict[str, set[str]] = {}
        for way, verdict in verdicts.items():
            by.setdefault(getattr(way, field), set()).add(verdict)
        if all(len(v) == 1 for v in by.values()):
            return ", ".join(f"{k}: {v.pop()}" for k, v in by.items())
    return ", ".join(f"{v}: {n} of {len(verdicts)}" for v, n in Counter(verdicts.values()).items())


def _reasons(outcomes: Sequence[Outcome]) -> str:
    found: dict[tuple[str, str], list[Outcome]] = {}
    for o in outcomes:
        if o.why:
            found.setdefault((o.head if o.verdict == TRAINS else o.verdict, _plain(o.why)), []).append(o)
    order = sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    rows = [(len(of), verdict, why, room(verdict, why), of[0].network) for (verdict, why), of in order]
    return _table(("files", "outcome", "reason", "room", "for example"), rows)


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


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [[str(c).replace("|", "\\|") for c in row] for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def written(text: str, made: str) -> str:
    """Return a page's text with the tables in place, and the versions that they are about."""
    return PART.sub(lambda m: f"<!-- exports: {VERSIONS} -->\n\n{made}\n\n{m[3]}", text)


def said_of(text: str, network: str, way: Way) -> str:
    """What a page says of a network that was exported in a way: a verdict, or several with what they are about."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {network} |"))
    return row.split("|")[2 + COLUMNS.index((way.exporter, way.batch))].strip()


def versions_of(text: str) -> str:
    """The versions that a page is about."""
    found = PART.search(text)
    assert found is not None, "the page has no part for the tables"
    return found[2]


def main() -> None:
    """Write the page and say what came out."""
    began = time.monotonic()
    outcomes = []
    for o in run(cases()):
        outcomes.append(o)
        if o.why:
            sys.stdout.write(f"{o.network} ({o.way}): {o.verdict}: {o.why}\n")
            sys.stdout.flush()
    PAGE.write_text(written(PAGE.read_text("utf-8"), tables(outcomes)), "utf-8")
    sys.stdout.write(_counts(outcomes) + "\n")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s; written to {PAGE.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
