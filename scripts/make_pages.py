#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write what the documentation repeats from the code: configuration keys, commands, metrics, samples, rooms, figures.

Each generated part stands between two HTML comments, so that people can write around it:

    <!-- generated: NAME ARGUMENTS -->
    <!-- end of generated -->

`make pages` writes the parts; with `--check` nothing is written and pages that are out of date are listed (exit 1).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from pages import commands, connectors, events, figures, keys, metrics, rooms

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- generated: ([\w-]+)((?: [\w.-]+)*) -->\n).*?(<!-- end of generated -->)", re.S)
GENERATORS: dict[str, Callable[..., str]] = {
    "keys": keys.page,
    "connector-keys": connectors.keys_of,
    "sample": connectors.sample,
    "commands": commands.page,
    "metrics": metrics.page,
    "rooms": rooms.page,
    "figures": figures.page,
    "costs": figures.costs,
    "event-figures": events.page,
}


def pages() -> list[Path]:
    """Every page that may hold a generated part."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def made(text: str) -> str:
    """A page's text with its generated parts written again."""
    return PART.sub(lambda m: f"{m[1]}\n{GENERATORS[m[2]](*m[3].split())}\n\n{m[4]}", text)


def main() -> int:
    """Write the pages, or list those that are out of date. Returns the exit code."""
    stale = [page for page in pages() if made(page.read_text("utf-8")) != page.read_text("utf-8")]
    for page in stale:
        if "--check" in sys.argv[1:]:
            sys.stderr.write(f"{page.relative_to(ROOT)}: out of date; run: make pages\n")
        else:
            page.write_text(made(page.read_text("utf-8")), "utf-8")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
