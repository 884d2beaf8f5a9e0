# SPDX-License-Identifier: Apache-2.0
"""The systemd unit of a service, written for the place where fedge is installed."""

from __future__ import annotations

import os
import re
import sys
from importlib import resources
from pathlib import Path

from ..errors import ConfigError

# Folders that a service cannot see: ProtectHome=yes and PrivateTmp=yes of our units hide them (systemd.exec(5)).
HIDDEN = tuple(Path(folder) for folder in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108
_PLAIN = re.compile(r"[\w/.+,:=@-]+")  # none of these characters is escaped in a unit file (systemd.syntax(7))


def unit(package: str, program: str, config: Path) -> str:
    """The unit file of a package; its ExecStart names the program that runs now, and its configuration.

    Raises ConfigError for a path that a unit file would have to escape.
    """
    text = resources.files(package).joinpath(f"{program}.service").read_text()
    command = f"{_plain(_program())} start --config {_plain(config.absolute())}"
    return re.sub(r"^ExecStart=.*", f"ExecStart={command}", text, flags=re.M)


def warnings(config: Path) -> list[str]:
    """What would keep the service from starting: a program, Python or configuration in a folder that it cannot see."""
    paths = [_program(), _program().resolve(), Path(sys.base_prefix), config.absolute(), config.resolve()]
    hidden = [path for path in dict.fromkeys(paths) if any(path.is_relative_to(folder) for folder in HIDDEN)]
    return [f"the service cannot see {path}; use a folder such as /opt or /etc" for path in hidden]


def _program() -> Path:
    """The program as it was called: a link such as /opt/fedge stays one, so that an upgrade can move it."""
    return Path(os.path.abspath(sys.argv[0]))  # noqa: PTH100  # Path.absolute keeps "..", which systemd refuses


def _plain(path: Path) -> str:
    if not _PLAIN.fullmatch(str(path)):
        raise ConfigError(f"{str(path)!r}: has a character that a unit file does not take; choose another path")
    return str(path)
