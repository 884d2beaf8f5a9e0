# SPDX-License-Identifier: Apache-2.0
"""The documentation is complete and up to date: generated parts, connectors, rooms, figures; the README is short."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.sources.registry import SOURCES

ROOT = Path(__file__).resolve().parent.parent
CONNECTORS = ROOT / "docs/automation-engineer/connectors"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#([^)\s]+))?\)")
RULES = (
    "reconnects by itself",
    "`check` without side effects",
    "every input is bounded",
    "tested against software nobody here wrote",
    "units in the documentation",
    "errors say what to do",
    "known limits are listed",
)
TYPES = [*(("source", name) for name in SOURCES), *(("output", name) for name in OUTPUTS)]
WIDEST = 120


def test_generated_parts_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts/make_pages.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("kind", "name"), TYPES)
def test_every_connector_has_a_page_with_its_quality(kind: str, name: str) -> None:
    text = (CONNECTORS / f"{kind}-{name}.md").read_text("utf-8")
    for part in (f"generated: sample {kind} {name}", f"generated: connector-keys {kind} {name}", "## Known limits"):
        assert part in text
    quality = text.partition("\n## Quality\n")[2].partition("\n## ")[0]
    states = dict(re.findall(r"^\| (.+?) \| ((?:done|exempt)\b.*) \|$", quality, re.M))
    assert tuple(states) == RULES
    assert all(re.match(r"done\b|exempt: \S", state) for state in states.values()), states


def test_every_source_file_names_its_licence() -> None:
    command = [sys.executable, str(ROOT / "scripts/headers.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_room_says_what_it_promises() -> None:
    for package in ("models", "agent", "aggregator", "fleet"):
        for path in (ROOT / package).rglob("__init__.py"):
            docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            assert docstring.split("\n\n")[0].rstrip().endswith("."), path


def test_readme_is_short() -> None:
    text = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text("utf-8"), flags=re.S)
    assert len(text.split()) < 900


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_prose_is_wrapped(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)
    long = [line for line in text.splitlines() if len(line) > WIDEST and not line.startswith(("|", "!"))]
    assert not long
    assert not re.search(r"^#.*\n#", text, re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target, anchor in LINK.findall(re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)):
        path = (page.parent / target).resolve()
        assert path.is_file(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.M)
            assert anchor in {slug(heading) for heading in headings}, f"{page}: {target}#{anchor}"


def slug(heading: str) -> str:
    """A heading's anchor, as forges and the site make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
