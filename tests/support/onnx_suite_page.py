# SPDX-License-Identifier: Apache-2.0
"""Write what came of ONNX's test suite into the documentation: `make onnx-suite`, a quarter of a minute."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx

from support.onnx_suite import (
    FOLDERS,
    OTHERWISE,
    PASSED,
    REFUSED,
    UNSUPPORTED,
    WRONG,
    Outcome,
    cases,
    outcome,
)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/onnx-suite.md"
PART = re.compile(r"<!-- onnx suite: (\S+) of (\S+) -->\n.*(<!-- end of onnx suite -->)", re.S)
TITLES = {"node": "node (single operators)", **{name: name for name in FOLDERS}}


def run() -> list[Outcome]:
    """Run all cases, each with a random direction of its own."""
    return [outcome(case, np.random.default_rng(i)) for i, case in enumerate(cases())]


def tables(outcomes: Sequence[Outcome]) -> str:
    """The counts, the reasons of refusals, and the operators that are lacking."""
    parts = [_counts(outcomes), "## Refused, and why", _reasons(outcomes, REFUSED)]
    parts += ["## Different on purpose", _reasons(outcomes, OTHERWISE)]
    return "\n\n".join([*parts, "## Operators that are not supported", _lacking(outcomes)])


def _counts(outcomes: Sequence[Outcome]) -> str:
    rows = [_row(TITLES[suite], [o for o in outcomes if o.suite == suite]) for suite in TITLES]
    head = ("suite", "cases", PASSED, REFUSED, UNSUPPORTED, OTHERWISE, "wrong", "gradients held")
    return _table(head, [*rows, _row("all", outcomes)])


def _row(title: str, outcomes: Sequence[Outcome]) -> Sequence[object]:
    found = Counter(o.verdict for o in outcomes)
    verdicts = [found[v] for v in (PASSED, REFUSED, UNSUPPORTED, OTHERWISE, WRONG)]
    return (title, len(outcomes), *verdicts, sum(o.slopes for o in outcomes))


def _reasons(outcomes: Sequence[Outcome], verdict: str) -> str:
    found: dict[str, list[Outcome]] = {}
    for o in outcomes:
        if o.verdict == verdict:
            found.setdefault(o.why, []).append(o)
    order = sorted(found.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    return _table(("cases", "reason", "for example"), [(len(of), why, f"`{of[0].name}`") for why, of in order])


def _lacking(outcomes: Sequence[Outcome]) -> str:
    found = Counter(name for o in outcomes if o.verdict == UNSUPPORTED for name in o.why.split(", "))
    order = sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))
    return _table(("cases", "operators"), _grouped(order))


def _grouped(order: Iterable[tuple[str, int]]) -> list[tuple[int, str]]:
    """Operators with equally many cases share a row."""
    rows: dict[int, list[str]] = {}
    for name, count in order:
        rows.setdefault(count, []).append(name)
    return [(count, ", ".join(names)) for count, names in rows.items()]


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [[str(c).replace("|", "\\|") for c in row] for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def written(text: str, made: str, day: str | None = None) -> str:
    """Return a page's text with the tables in place, the release of onnx that they are about, and the day."""

    def part(found: re.Match[str]) -> str:
        on = day or found[2]
        lead = f"What came of release {onnx.__version__} of onnx on {on}:"
        return f"<!-- onnx suite: {onnx.__version__} of {on} -->\n\n{lead}\n\n{made}\n\n{found[3]}"

    return PART.sub(part, text)


def release_of(text: str) -> str:
    """The release of onnx that a page is about."""
    found = PART.search(text)
    assert found is not None, "the page has no part for the tables"
    return found[1]


def main() -> None:
    """Write the page and say what came out."""
    began = time.process_time()
    outcomes = run()
    day = time.strftime("%Y-%m-%d", time.gmtime())
    PAGE.write_text(written(PAGE.read_text("utf-8"), tables(outcomes), day), "utf-8")
    sys.stdout.write(_counts(outcomes) + "\n")
    for o in outcomes:
        if o.verdict == WRONG:
            sys.stdout.write(f"{o.suite} {o.name} ({', '.join(o.operators)}): {o.why}\n")
    sys.stdout.write(f"{time.process_time() - began:.1f} s of processor time; written to {PAGE.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
