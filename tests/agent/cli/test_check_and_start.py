# SPDX-License-Identifier: Apache-2.0
"""`check` and `start --once` give one verdict, in the same words, on configurations with one fault each."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.asyncua_plc import Plc
from support.canned_http import CannedServer, Request, reply
from support.programs import BIN, ENV
from support.waiting import LONGEST_S

AGENT = '[agent]\nname = "gw"\nstate = "{state}"\n'
FILES = '[source.s]\ntype = "files"\npath = "{path}"\ntime_column = "time"\ntail = true\nstart = "begin"\n'
HTTP = '[source.s]\ntype = "http"\nurl = "{http}/{path}"\npoll = "1s"\n'
OPCUA = '[source.s]\ntype = "opcua"\nurl = "{opcua}"\n'
ASSET = (
    '[asset.pump]\nmodel = "m"\n{more}\n'
    'channels.temp = {{ source = "s", tag = "{temp}"{tag} }}\nchannels.press = {{ source = "s", tag = "{press}" }}\n'
)
MES = '[output.o]\ntype = "mes"\nurl = "{http}/ok"\n'
ANSWERS = {
    "/text": b'{"temp": "12.5", "press": 1}',
    "/word": b'{"temp": "off", "press": 1}',
    "/huge": b'{"temp": 1e300, "press": 1}',
    "/list": b'{"temp": [1], "press": 1}',
    "/nothing": b'{"press": 1}',
    "/empty": b"",
    "/page": b"<html><title>login</title>",
    "/ok": b'{"temp": 20, "press": 1}',
}


class Case(NamedTuple):
    """A configuration with one fault, and what both commands say of it."""

    words: str
    source: str = FILES
    path: str = "data.csv"
    more: str = ""  # keys of the asset
    tag: str = ""  # keys of its first channel
    temp: str = "temp"
    press: str = "press"
    state: str = "state"
    model: str = '[model.m]\nfile = "m.onnx"\n'
    output: str = ""


CASES = {
    "a device that never ends": Case("/dev/zero: ", path="/dev/zero"),
    "a named pipe": Case("pipe: cannot be read", path="pipe"),
    "a socket": Case("socket; expected a file", path="socket"),
    "a folder": Case("a folder; expected a file", path="."),
    "no such file": Case("No such file", path="none.csv"),
    "no such column": Case("has no column 'tmp'; did you mean 'temp'?", temp="tmp"),
    "a column of text": Case("temp (word) are not numbers, e.g. 'off'", temp="word"),
    "numbers where waveforms are wanted": Case("temp are not arrays of numbers, e.g. ", tag=", waveform_hz = 100.0"),
    "a number as text": Case("are not numbers, e.g. '12.5'", HTTP, "text", temp="/temp", press="/press"),
    "a text": Case("are not numbers, e.g. 'off'", HTTP, "word", temp="/temp", press="/press"),
    "a number too large": Case("1e+300 there: no quantity is so large", HTTP, "huge", temp="/temp", press="/press"),
    "a list": Case("the answer has a list there", HTTP, "list", temp="/temp", press="/press"),
    "no value": Case("the answer has nothing there", HTTP, "nothing", temp="/temp", press="/press"),
    "an empty body": Case("status 200 with an empty body; expected JSON", HTTP, "empty", temp="/temp", press="/press"),
    "a login page": Case("a proxy or login page answers", HTTP, "page", temp="/temp", press="/press"),
    "an OPC UA string": Case("are not numbers, e.g. '12.5'", OPCUA, temp="ns=2;s=string", press="ns=2;s=press"),
    "an OPC UA array": Case("not numbers, e.g. an array of 3", OPCUA, temp="ns=2;s=array", press="ns=2;s=press"),
    "an OPC UA node that is not there": Case("ns=2;s=none", OPCUA, temp="ns=2;s=none", press="ns=2;s=press"),
    "a row of no waveform": Case("index': it is the row of a waveform", tag=", index = 0"),
    "a time zone that no place has": Case("'+25:00' is no offset from UTC", FILES + 'time_zone = "+25:00"\n'),
    "a state folder that is a link to nothing": Case("a link to nowhere, which does not exist", state="dangling"),
    "a state folder below /proc": Case("/proc/fedge: ", state="/proc/fedge/state"),
    "a state folder that is a file": Case("a file, or below a file; expected a folder", state="data.csv"),
    "windows deleted before they are learnt from": Case("it would never decide", more='learn_after = "1000d"'),
    "an alarm that takes weeks": Case("hold an alarm back for ", more="when = { for_windows = 10000000 }"),
    "fewer samples than a model needs": Case(
        "so many are never stored", model='[model.m]\nfile = "m.onnx"\nmax_samples = 10\n'
    ),
    "a model that cannot come": Case("fedge-agent join INVITATION", model="[model.m]\n"),
    "no model": Case("No such file", model='[model.m]\nfile = "none.onnx"\n'),
    "a model that is a device": Case("a device; expected a file", model='[model.m]\nfile = "/dev/zero"\n'),
    "a model that is a pipe": Case("a named pipe; expected a file", model='[model.m]\nfile = "pipe"\n'),
    "a model that is none": Case("not an ONNX file", model='[model.m]\nfile = "data.csv"\n'),
    "a model of other channels": Case("the model expects the channels", model='[model.m]\nfile = "other.onnx"\n'),
    "targets that the model lacks": Case(
        "the model gives the targets []", more='targets.life = { source = "s", tag = "press" }'
    ),
    "a label that the model lacks": Case(
        "label.map: the model has no label 'broken'",
        more='label = { source = "s", tag = "press", map = { "1" = "broken" } }',
    ),
    "a closing label that the model lacks": Case(
        "closing: the model has no label 'broken'",
        output=MES + 'closing = { x = "broken" }\nstatus = { method = "GET", url = "/{id}", code = "/c" }\n',
    ),
    "a severity that is none": Case("severity': expected one of", output=MES + 'severity = "urgent"\n'),
    "a state in when": Case("unknown key 'asset.pump.when.state'", more='when = { state = "opened" }'),
    "a silent severity that is none": Case("silent_severity': expected", more='when = { silent_severity = "urgent" }'),
    "a placeholder of a body": Case(
        "the unknown field {none}", output=MES + 'create = { body = { a = "{none}" }, id = "/id" }\n'
    ),
    "a placeholder of a topic": Case(
        "the unknown field {none}", output='[output.o]\ntype = "mqtt"\nurl = "mqtt://127.0.0.1:9"\ntopic = "a/{none}"\n'
    ),
    "a placeholder of a node": Case(
        "the unknown field {none}",
        output='[output.o]\ntype = "opcua"\nurl = "opc.tcp://127.0.0.1:9"\nevents = { "ns=2;s={none}" = "{score}" }\n',
    ),
    "two outputs with one file": Case(
        "output p uses {folder}/e, and so does output o",
        output='[output.o]\ntype = "log"\npath = "e"\n[output.p]\ntype = "log"\npath = "./e"\n',
    ),
    "an output that writes what a source reads": Case(
        "data.csv, and so does source s", output='[output.o]\ntype = "log"\npath = "data.csv"\n'
    ),
    "an output that writes the configuration": Case(
        "and so does the configuration", output='[output.o]\ntype = "log"\npath = "gw.toml"\n'
    ),
    "an output that writes the model": Case(
        "and so does key model.m.file", output='[output.o]\ntype = "log"\npath = "m.onnx"\n'
    ),
    "an output in the state folder's own file": Case(
        "and so does the state folder", output='[output.o]\ntype = "log"\npath = "state/spool.sqlite"\n'
    ),
    "two sessions of one name": Case(
        "uses the client id 'c' at mqtt://127.0.0.1:9, and so does",
        output='[output.o]\ntype = "mqtt"\nurl = "mqtt://127.0.0.1:9"\nclient_id = "c"\ntopic = "t/{asset}"\n'
        '[output.p]\ntype = "mqtt"\nurl = "mqtt://127.0.0.1:9"\nclient_id = "c"\ntopic = "u/{asset}"\n',
    ),
    "two outputs with one target": Case("), and so does output o", output=MES + MES.replace("output.o", "output.p")),
    "an output that cannot be reached": Case(
        "refused", output='[output.o]\ntype = "webhook"\nurl = "http://127.0.0.1:9/"\n'
    ),
    "no duration": Case("timeout': expected a duration of at least 1 ms, got 0", output=MES + "timeout = 0\n"),
    "no number": Case("rate_hz': expected a finite number, got nan", more="window = { rate_hz = nan }"),
}


@pytest.fixture(scope="module")
def http() -> Iterator[CannedServer]:
    def answer(request: Request) -> bytes:
        return reply(200, ANSWERS.get(request.line.split()[1], ANSWERS["/ok"]))

    with CannedServer(answer) as server:
        yield server


@pytest.fixture(scope="module")
def plc() -> Iterator[Plc]:
    made = Plc()
    made.add("press", 1.0)
    made.add("string", "12.5")
    made.add("array", [1.0, 2.0, 3.0])
    yield made
    made.stop()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, channels in (("m", ("temp", "press")), ("other", ("flow", "press"))):
        card = Card("anomaly", tuple(map(Channel, channels)), WindowSpec(1, 10, 5))
        (folder / f"{name}.onnx").write_bytes(zoo.autoencoder(card, [2, 10], (4, 2)).SerializeToString())
    return folder


def configured(folder: Path, models: Path, case: Case, http: str, opcua: str) -> Path:
    for file in models.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    rows = (f"{1_700_000_000 + i},{20 + i % 5},{i % 3},off" for i in range(200))
    (folder / "data.csv").write_text("\n".join(["time,temp,press,word", *rows, ""]))
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(folder, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    text = AGENT.format(state=case.state) + case.source.format(path=case.path, http=http, opcua=opcua)
    asset = ASSET.format(more=case.more, tag=case.tag, temp=case.temp, press=case.press)
    output = case.output.replace("{http}", http)
    path = folder / "gw.toml"
    path.write_text("\n".join([text, case.model, asset, output]))
    return path


def verdict(path: Path, *words: str) -> tuple[int, str]:
    """The exit code, and all that was printed; no command may hang or take all memory."""
    bounded: list[str | Path] = ["bash", "-c", 'ulimit -v 6000000; exec "$@"', "bounded", BIN / "fedge-agent", *words]
    command = [*bounded, "--config", path]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=LONGEST_S, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_check_fails_in_words(name: str, tmp_path: Path, models: Path, http: CannedServer, plc: Plc) -> None:
    case = CASES[name]
    path = configured(tmp_path, models, case, http.url, f"opc.tcp://127.0.0.1:{plc.port}")
    done = CliRunner().invoke(main, ["check", "--config", str(path)], prog_name="fedge-agent")
    text = done.output
    assert done.exit_code == 1 and case.words.replace("{folder}", str(tmp_path)) in text, text
    assert "Traceback" not in text and "please report" not in text and "Errno" not in text.replace("[Errno 111]", "")


@pytest.mark.parametrize(("name", "said"), [("a column of text", True), ("a number as text", False)])
def test_check_says_what_to_do_with_words(
    name: str, said: bool, tmp_path: Path, models: Path, http: CannedServer, plc: Plc
) -> None:
    path = configured(tmp_path, models, CASES[name], http.url, f"opc.tcp://127.0.0.1:{plc.port}")
    done = CliRunner().invoke(main, ["check", "--config", str(path)], prog_name="fedge-agent")
    assert ("e.g. 'off'; a channel is a number. For categories give a number" in done.output) is said, done.output
    assert ('derive = { category_1 = "temp == 1" }' in done.output) is said, done.output


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_start_fails_in_the_same_words(name: str, tmp_path: Path, models: Path, http: CannedServer, plc: Plc) -> None:
    case = CASES[name]
    path = configured(tmp_path, models, case, http.url, f"opc.tcp://127.0.0.1:{plc.port}")
    started, said = verdict(path, "start", "--once", "--for", "2")
    assert started == 1 and case.words.replace("{folder}", str(tmp_path)) in said and "Traceback" not in said, said


def test_both_pass_what_is_right(tmp_path: Path, models: Path, http: CannedServer) -> None:
    label = 'label = { source = "s", tag = "press", map = { "2" = "anomaly" } }'
    path = configured(tmp_path, models, Case("", more=label, output=MES.replace("{http}", http.url)), http.url, "")
    for words in (("check",), ("start", "--once")):
        code, text = verdict(path, *words)
        assert code == 0 and "PROBLEM" not in text and "FAIL" not in text, text
