# SPDX-License-Identifier: Apache-2.0
"""Be a user without rights for a while: root may read and write everything."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def folder_of_nobody() -> Iterator[Path]:
    """A folder that belongs to user nobody, and that this user may reach; ours, where we are not root."""
    made = Path(tempfile.mkdtemp())
    try:
        if os.geteuid() == 0:
            os.chown(made, NOBODY, NOBODY)
        yield made
    finally:
        shutil.rmtree(made)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be user nobody until the block ends; nothing changes for a user who is not root."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.setresuid(NOBODY, NOBODY, 0)  # the saved one is the way back
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setegid(0)
