# SPDX-License-Identifier: Apache-2.0
"""A program with a fixed address is asked there, whatever became of the file that names it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.system import service
from fedge_models.system.folder_socket import FolderSocket


@pytest.fixture
def page() -> Iterator[service.Page]:
    made = service.Page(("127.0.0.1", 0), lambda: b"", lambda: {"up": True}, lambda: True)
    made.start()
    yield made
    made.stop()


@pytest.mark.parametrize("left", [None, "", "127.0.0.1:1", "a folder"])
def test_the_fixed_address_answers(page: service.Page, tmp_path: Path, left: str | None) -> None:
    file = tmp_path / "status.addr"
    if left == "a folder":  # as unreadable as a file of another user, also for root
        file.mkdir()
    elif left is not None:
        file.write_text(left)
    assert json.loads(service.ask(file, "fedge-agent", configured=page.address)) == {"up": True}


def test_without_a_fixed_one_it_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="has not run with the state folder"):
        service.ask(tmp_path / "status.addr", "fedge-agent", configured="127.0.0.1:0")
    (tmp_path / "status.addr").mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        service.ask(tmp_path / "status.addr", "fedge-agent", configured="127.0.0.1:0")


def test_a_program_that_could_not_write_where_its_page_is_is_said_to_run(tmp_path: Path) -> None:
    running = FolderSocket(tmp_path)
    assert running.take() is None
    with pytest.raises(UnreachableError, match=rf"runs \(pid {os.getpid()}\), but .*could not be written"):
        service.ask(tmp_path / "status.addr", "fedge-agent", configured="127.0.0.1:0")
    running.release()
