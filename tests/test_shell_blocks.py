# SPDX-License-Identifier: Apache-2.0
"""The commands that README and documentation print: they exist, and what can run here runs, page by page, in order.

Comments before a block say what to do with it:

    <!-- not run: REASON -->     it cannot run in a test
    <!-- background -->          a program that stays; it has started once it prints a line
    <!-- file: NAME -->          any block: the content of a file
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from fedge_agent.cli.main import main as agent
from fedge_aggregator.cli.main import main as aggregator
from fedge_fleet.cli import main as fleet
from support.waiting import LONGEST_S

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS: dict[str, click.Command] = {"fedge-agent": agent, "fedge-aggregator": aggregator, "fedge-fleet": fleet}
BLOCK = re.compile(
    r"(?:^<!-- (?P<kind>not run|background|file)(?:: (?P<what>.+?))? -->\n)?^```(\w+)\n(.*?)^```", re.M | re.S
)
BLOCK_S = 300.0


class Block(NamedTuple):
    """A code block of a page."""

    kind: str  # "not run", "background", "file" or ""
    what: str  # the reason, or the name of the file
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All code blocks of a page, in order."""
    return [Block(m[1] or "", m[2] or "", m[3], m[4]) for m in BLOCK.finditer(page.read_text("utf-8"))]


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each call of a program of ours in a shell block, also within $(…): its name and its arguments."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split, call = True, list[str]()
        for word in (*lexer, ";"):
            if set(word) <= set(";&|"):
                if call and Path(call[0]).name in PROGRAMS:
                    yield Path(call[0]).name, call[1:]
                call = []
                continue
            call.append(word)
            for inner in re.findall(r"\$\((.*?)\)", word):
                yield from commands(inner)


def shell_pages() -> list[Path]:
    return [page for page in PAGES if any(b.language == "sh" for b in blocks(page))]


def running_pages() -> list[Path]:
    return [p for p in PAGES if any(b.language == "sh" and b.kind != "not run" for b in blocks(p))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", shell_pages(), ids=name)
def test_every_command_and_option_exists(page: Path) -> None:
    for block in blocks(page):
        if block.language != "sh":
            continue
        assert block.kind != "not run" or block.what, f"{page}: say why this block does not run"
        for program, words in commands(block.text):
            known, rest = resolved(PROGRAMS[program], words)
            options = {word.partition("=")[0] for word in rest if word.startswith("--")}
            assert options <= known, f"{page}: {program}: {options - known}"


def resolved(command: click.Command, words: list[str]) -> tuple[set[str], list[str]]:
    """The options of the command that the words name, and the words that are left."""
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found, f"{command.name} has no command {words[0]!r}"
        return resolved(found, words[1:])
    return {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "--version"}, words


@pytest.mark.slow
@pytest.mark.parametrize("page", running_pages(), ids=name)
def test_blocks_run_in_order(page: Path, tmp_path: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    with ExitStack() as stack:
        for block in blocks(page):
            if block.kind == "file":
                (tmp_path / block.what).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / block.what).write_text(block.text, "utf-8")
            elif block.language != "sh" or block.kind == "not run":
                continue
            elif block.kind == "background":
                start(block.text, tmp_path, env, stack)
            else:
                run(block.text, tmp_path, env)


def run(text: str, folder: Path, env: dict[str, str]) -> None:
    command = ["bash", "-euo", "pipefail", "-c", text]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=BLOCK_S, check=False)
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def start(text: str, folder: Path, env: dict[str, str], stack: ExitStack) -> None:
    """Start a program that stays, and wait for its first line; it is ended when the page is over."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {text}"], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    stack.callback(end, process)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line and process.poll() is None, f"{text} ended"


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=LONGEST_S)
    assert process.returncode == 0
