# SPDX-License-Identifier: Apache-2.0
"""Command lines whose errors are one line that says what to do, never a traceback.

Exit codes: 0, done; 1, refused or failed, with the reason on stderr; 2, a PROBLEM that needs a person (an agent's
`status`, and commands on a state folder that cannot be read or written), or a command line that click does not accept.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, NoReturn

import click

from ..errors import FedgeError
from . import files
from .text import printable

EXIT_CODES = (
    "Exit codes: 0 done; 1 an error, or what check found; 2 a PROBLEM that needs a person (status; a state folder that "
    "cannot be read or written), or a wrong command, option or value."
)


class Group(click.Group):
    """The commands of a program."""

    def __init__(self, *args: Any, program: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._program = program
        variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
        completion = f'Completion in bash: eval "$({variable}=bash_source {program})" (or zsh_source, fish_source).'
        self.epilog = f"{EXIT_CODES}\n\n{completion}"

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors of fedge and of the operating system are one line on stderr and exit code 1."""
        try:
            return super().invoke(ctx)
        except FedgeError as e:
            self._fail(str(e))
        except OSError as e:
            if e.errno == errno.EPIPE:  # the reader of a pipe has left: click's business
                raise
            at = e.filename
            self._fail(files.explain(e, Path(at)) if isinstance(at, (str, Path)) else e.strerror or str(e))

    def _fail(self, reason: str) -> NoReturn:
        shown = "\n".join(map(printable, reason.split("\n")))
        click.echo(f"{self._program}: {shown}", err=True)
        raise click.exceptions.Exit(1)
