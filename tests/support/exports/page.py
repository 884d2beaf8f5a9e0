# SPDX-License-Identifier: Apache-2.0
"""Write what comes of each exported network into the documentation: `make exports-page`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from importlib import metadata

from support.paths import ROOT

from . import keras_files, parts, pipelines
from .parts import PAGE, Found
from .registry import cases, run
from .torch_tables import PART, counts, tables
from .verdict import Outcome


def torch_versions() -> dict[str, str]:
    """The tools that the part about PyTorch is about."""
    return _versions("torch", "onnxscript")


def pipeline_versions() -> dict[str, str]:
    """The tools that the part about pipelines is about."""
    return _versions("scikit-learn", "skl2onnx")


def _versions(*names: str) -> dict[str, str]:
    return {name: metadata.version(name).partition("+")[0] for name in names}


def of_pipelines(found: Mapping[str, Found]) -> str:
    """The table of pipelines."""
    return parts.table(("pipeline", "outcome", "reason"), [(n, *f) for n, f in found.items()])


def of_keras(found: Mapping[str, tuple[Found, Found]]) -> str:
    """The table of networks of Keras: trained whole, and by the head."""
    rows = [(keras_files.CASES[n].text, a.verdict, b.verdict, a.why or b.why) for n, (a, b) in found.items()]
    return parts.table(("network", "outcome", "by its head", "reason"), rows)


def _networks() -> list[Outcome]:
    outcomes = []
    for o in run(cases()):
        outcomes.append(o)
        if o.why:
            sys.stdout.write(f"{o.network} ({o.way}): {o.verdict}: {o.why}\n")
            sys.stdout.flush()
    return outcomes


def main() -> None:
    """Write the page and say what came out."""
    began, day = time.monotonic(), time.strftime("%Y-%m-%d", time.gmtime())
    outcomes = _networks()
    made = {
        PART: (torch_versions(), tables(outcomes)),
        keras_files.PART: (keras_files.versions(), of_keras({n: keras_files.outcome(n) for n in keras_files.CASES})),
        pipelines.PART: (pipeline_versions(), of_pipelines({n: pipelines.outcome(n) for n in pipelines.ALL})),
    }
    text = PAGE.read_text("utf-8")
    for part, (versions, part_of_page) in made.items():
        text = parts.written(text, part, versions, part_of_page, day)
    PAGE.write_text(text, "utf-8")
    sys.stdout.write(counts(outcomes) + "\n")
    sys.stdout.write(f"{time.monotonic() - began:.0f} s; written to {PAGE.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
