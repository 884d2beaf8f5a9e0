# SPDX-License-Identifier: Apache-2.0
"""`browse`, `trust` and `check` with OPC UA servers that say nothing, or say what a terminal would obey."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.protocols.opcua.connection import bounded
from support.asyncua_plc import Plc

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EVIL = "Current\x1b[2J\u202egnp"


@pytest.fixture(scope="module")
def plc() -> Iterator[Plc]:
    made = Plc()
    made.add(EVIL, "on\n\x9b31mred")
    for i in range(8):
        made.add(f"T{i}", float(i))
    yield made
    made.stop()


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"opc.tcp://127.0.0.1:{server.getsockname()[1]}"


def config(folder: Path, url: str, tags: list[str]) -> str:
    channels = "".join(f'channels.c{i} = {{ source = "plc", tag = "{tag}" }}\n' for i, tag in enumerate(tags))
    path = folder / "agent.toml"
    path.write_text(
        f'[agent]\nname = "gw"\nstate = "{folder / "state"}"\n[source.plc]\ntype = "opcua"\nurl = "{url}"\n'
        f'[model.m]\nfile = "m.onnx"\n[asset.press]\nmodel = "m"\n{channels}'
    )
    return str(path)


def test_browse_escapes_names_and_values(plc: Plc) -> None:
    shown = CliRunner().invoke(main, ["browse", f"opc.tcp://127.0.0.1:{plc.port}"])
    assert shown.exit_code == 0, shown.output
    assert r"Current\x1b[2J\u202egnp" in shown.output and r"on\n\x9b31mred" in shown.output
    assert not set(shown.output) & set("\x1b\x9b\u202e")


@pytest.mark.parametrize("command", ["browse", "trust"])
def test_a_server_that_never_answers_ends_in_words_after_the_time_out(
    silent: str, tmp_path: Path, command: str
) -> None:
    where = ["--config", config(tmp_path, silent, ["ns=2;s=T1"])]
    ended = CliRunner().invoke(main, [command, "plc", "--timeout", "0.3", *where])
    assert ended.exit_code == 1 and "not done within 0.3 s (--timeout)" in ended.output


def test_check_names_asset_and_channel_five_at_most_and_never_what_failed(plc: Plc, tmp_path: Path) -> None:
    absent = [f"ns=2;s=T{i}" for i in range(100, 109)]
    where = config(tmp_path, f"opc.tcp://127.0.0.1:{plc.port}", ["ns=2;s=T1", *absent])
    lines = CliRunner().invoke(main, ["check", "--config", where]).output.splitlines()
    said = [line for line in lines if "BadNodeIdUnknown" in line or "press." in line]
    assert "press.c1 (ns=2;s=T100)" in said[0] and "the server has: ns=2;s=T1" in said[0]
    assert len(said) <= 6 and max(map(len, said)) < 400


def test_a_name_in_another_namespace_is_suggested_with_its_namespace(plc: Plc, tmp_path: Path) -> None:
    where = config(tmp_path, f"opc.tcp://127.0.0.1:{plc.port}", ["3:T1"])
    said = CliRunner().invoke(main, ["check", "--config", where]).output
    assert "nothing is called 'T1' in /Objects; there is: 0:T1" in said


def test_work_that_fails_while_it_is_cancelled_leaves_nothing_unsaid() -> None:
    """Ctrl-C ends a server in the same terminal too, so that connecting fails while it is being cancelled."""
    reported: list[dict[str, Any]] = []

    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ConnectionError("Connection is closed") from None

    async def interrupted() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        task = asyncio.ensure_future(bounded(fails(), 60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(asyncio.TimeoutError):
            await bounded(fails(), 0.01)
        del task
        gc.collect()

    asyncio.run(interrupted())
    assert reported == []
