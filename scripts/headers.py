#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Name the licence in the first lines of every source file (SPDX, ISO/IEC 5962).

`make headers` adds what is missing; with `--check` nothing is written and files without a header are listed (exit 1).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "SPDX-License-Identifier: Apache-2.0"
COMMENTS = {".py": "# {}", ".sh": "# {}", ".yml": "# {}", ".service": "# {}", ".js": "// {}", ".css": "/* {} */"}
NAMED = {"Makefile": "# {}", "Dockerfile.x86": "# {}", "Dockerfile.jetson": "# {}", "run": "# {}", "lock": "# {}"}


def sources() -> list[Path]:
    """Every tracked source file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and style(path)]


def style(path: Path) -> str:
    """How a comment is written in a file; empty for files that are no source."""
    return COMMENTS.get(path.suffix) or NAMED.get(path.name, "")


def has_header(path: Path) -> bool:
    """Whether the licence is in the first three lines."""
    return any(HEADER in line for line in path.read_text("utf-8").splitlines()[:3])


def add_header(path: Path) -> None:
    """Put it into the first line, or after `#!` and Docker's `# syntax=`."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    at = 1 if lines and lines[0].startswith(("#!", "# syntax=")) else 0
    path.write_text("".join([*lines[:at], style(path).format(HEADER) + "\n", *lines[at:]]), "utf-8")


def main() -> int:
    """Add headers, or list what lacks one. Returns the exit code."""
    missing = [path for path in sources() if not has_header(path)]
    for path in missing:
        if "--check" in sys.argv[1:]:
            sys.stderr.write(f"{path.relative_to(ROOT)}: names no licence; run: make headers\n")
        else:
            add_header(path)
    return 1 if missing and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
