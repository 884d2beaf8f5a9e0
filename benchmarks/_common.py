# SPDX-License-Identifier: Apache-2.0
"""What all benchmarks share: arguments, a table for people, and one JSON line with --json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

ROOT = Path(__file__).resolve().parent.parent


def arguments(
    description: str, more: Callable[[argparse.ArgumentParser], object] = lambda _: None, *, data: bool = False
) -> argparse.Namespace:
    """Parse --json, --quick, --peers and what `more` adds.

    data: the benchmark reads recorded sets; --data, or the variable FEDGE_DATA, names their folder.
    """
    parser = argparse.ArgumentParser(description=description)
    more(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="end within 60 s on two cores")
    parser.add_argument("--peers", action="store_true", help="measure the peers too (make bench-peers)")
    if data:
        folder = os.environ.get("FEDGE_DATA")
        parser.add_argument(
            "--data", type=Path, default=folder, required=not folder, help="folder of the data sets (or FEDGE_DATA)"
        )
    return parser.parse_args()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print an aligned table."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def finish(name: str, figures: Mapping[str, float], as_json: bool) -> None:
    """The JSON line."""
    if not as_json:
        return
    versions = {p: metadata.version(p) for p in ("numpy", "onnxruntime", "onnx")}
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        **versions,
    }
    rounded = {k: float(f"{v:.5g}") for k, v in figures.items()}
    made = {"benchmark": name, "command": command(), "date": date.today().isoformat()}
    print(json.dumps({**made, "figures": rounded, "environment": environment}))


def command() -> str:
    """How this benchmark was called, from the checkout; the folder of data is left out."""
    words = [word for word in sys.argv[1:] if not word.startswith("--data") and not Path(word).exists()]
    return " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *words])
