# SPDX-License-Identifier: Apache-2.0
"""Every command with its options, from the command lines themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from fedge_agent.cli.main import main as agent
from fedge_aggregator.cli.main import main as aggregator
from fedge_fleet.cli import main as fleet

from .markdown import code, prose, table

PROGRAMS: dict[str, click.Group] = {"fedge-agent": agent, "fedge-aggregator": aggregator, "fedge-fleet": fleet}


def page(program: str) -> str:
    """All commands of a program."""
    return "\n\n".join(_section(name, command) for name, command in commands(program, PROGRAMS[program]))


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command's whole name and itself; of a group, those below it."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for below in sorted(command.commands):
        yield from commands(f"{name} {below}", command.commands[below])


def _section(name: str, command: click.Command) -> str:
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    usage = " ".join([name, *(["[OPTIONS]"] if options else []), *(_argument(a) for a in arguments)])
    parts = [f"### `{name}`", _help(command), f"```text\n{usage}\n```"]
    if options:
        parts.append(table(("option", "takes", "default", "meaning"), [_row(o) for o in options]))
    return "\n\n".join(parts)


def _argument(argument: click.Argument) -> str:
    name = (argument.metavar or argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _help(command: click.Command) -> str:
    paragraphs = (command.help or "").replace("\b\n", "").strip().split("\n\n")
    return "\n\n".join(prose(" ".join(p.split()).replace("<", "&lt;")) for p in paragraphs)


def _row(option: click.Option) -> tuple[str, str, str, str]:
    names = ", ".join(code(n) for n in (*option.opts, *option.secondary_opts))
    return names, _takes(option), _default(option), option.help or ""


def _takes(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return ", ".join(code(str(c)) for c in option.type.choices)
    return (option.metavar or option.type.name).upper()


def _default(option: click.Option) -> str:
    value: Any = option.default
    if option.required:
        return "required"
    known = isinstance(value, str | int | float | Path) and not isinstance(value, bool)
    return code(str(value)) if known and str(value) else ""
