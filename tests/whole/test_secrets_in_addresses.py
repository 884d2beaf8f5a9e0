# SPDX-License-Identifier: Apache-2.0
"""Secrets in the addresses of sources and outputs appear nowhere: neither printed, nor logged, nor on a page."""

from __future__ import annotations

import http.server
import math
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.config import plugins
from fedge_agent.outputs.mes.caller import Caller
from fedge_agent.outputs.mes.settings import MesConfig, Step
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.outputs.registry import build as build_output
from fedge_agent.sources.registry import SOURCES
from fedge_agent.sources.registry import build as build_source
from fedge_models.errors import FedgeError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.system import settings
from support.gateway import Gateway
from support.programs import BIN, free_port

SECRETS = ("T000PATH", "k3yQUERY", "FRAGm3nt")
REST = "/services/T000PATH/x?key=k3yQUERY&n=1#FRAGm3nt"
LOGIN = "operat0r:pa55w0rd@"
KEY = "h34derKEY"
# Of each type that has an address, what else its table needs. The rest of an OPC UA address is the name of an endpoint,
# which a server shows to whoever asks for its endpoints (OPC 10000-4, 5.5.4): that is no secret; a login or a
# query in it is refused.
SOURCE_TABLES = {
    "http": 'url = "http://{at}"\nheaders = {{ X-Api = "h34derKEY" }}',
    "mqtt": 'url = "mqtt://{at}"\nclient_id = "{name}"',
    "sparkplug": 'url = "mqtt://{at}"\nclient_id = "{name}"',
    "camera": 'device = "rtsp://{login}{at}"',
    "opcua": 'url = "opc.tcp://{at}"',
}
OUTPUT_TABLES = {
    "webhook": 'url = "http://{at}"\nheaders = {{ X-Api = "h34derKEY" }}',
    "mqtt": 'url = "mqtt://{at}"\ntopic = "t/{{asset}}"',
    "sparkplug": 'url = "mqtt://{at}"\ngroup = "g"\nnode = "n"',
    "mes": 'url = "http://{at}"\ncreate = {{ body = {{ key = "{{key}}" }}, id = "/id" }}',
    "opcua": 'url = "opc.tcp://{at}"\ndecisions = {{ "ns=2;s={{asset}}" = "{{score}}" }}',
}
CARD = Card("anomaly", (Channel("temp"),), WindowSpec(1.0, 10, 10), ("mean", "std"))
TAGS = {"http": "/temp", "opcua": "ns=2;s=temp", "sparkplug": "g/n/d/temp"}  # of each type of source; else "temp"


class Echo(http.server.BaseHTTPRequestHandler):
    """A web server that finds nothing, and says what was asked for."""

    def do_POST(self) -> None:
        segments, values = (re.split(r"[/&=]", part) for part in self.path.split("?"))
        said = f"Cannot {self.command} {self.path} with {self.headers.get('X-Api')}: no {segments}, no {values}"
        text = said.encode()
        self.send_response(404)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that answers with the path."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def config(ports: dict[str, int]) -> str:
    """Every source and output with an address, with a secret in each part of it."""
    made = '[source.rows]\ntype = "files"\npath = "rows.csv"\ntime_column = "time"\ntail = true\nstart = "begin"\n'
    made += '[model.m]\nfile = "model.onnx"\ntraining = { min_samples = 20 }\n'
    made += '[asset.pump]\nmodel = "m"\nbaseline = "60s"\nwhen = { score_above = 1e-9, min_gap = 0 }\n'
    made += 'channels.temp = { source = "rows", tag = "temp" }\n'
    for where, port in ports.items():
        for kind, table in SOURCE_TABLES.items():
            name = f"{kind}-{where}"
            made += f'[source.{name}]\ntype = "{kind}"\n{table.format(at=at(kind, port), login=LOGIN, name=name)}\n'
            made += f'[asset.{name}]\nmodel = "m"\n'
            made += f'channels.temp = {{ source = "{name}", tag = "{TAGS.get(kind, "temp")}" }}\n'
        for kind, table in OUTPUT_TABLES.items():
            made += f'[output.{kind}-{where}]\ntype = "{kind}"\n{table.format(at=at(kind, port))}\n'
    return made


def at(kind: str, port: int) -> str:
    return f"127.0.0.1:{port}" + (REST if kind != "opcua" else "")


def rows() -> str:
    """Of a machine with a fault."""
    values = (20 + math.sin(i / 7) + (40 if i > 900 else 0) for i in range(1500))
    lines = [f"2026-03-02T06:{i // 60:02}:{i % 60:02}Z,{value:.3f}\n" for i, value in enumerate(values)]
    return "time,temp\n" + "".join(lines)


def test_no_secret_of_an_address_is_printed_logged_or_shown(tmp_path: Path, echo: int) -> None:
    gateway = Gateway(tmp_path, "pump", config({"closed": free_port(), "echo": echo}), zoo.autoencoder(CARD, 2, (1,)))
    (tmp_path / "rows.csv").write_text(rows())
    said = {}
    try:
        gateway.start("gw")

        def failed() -> bool:
            status = gateway.status("gw")
            outputs = [name for name, o in status["outputs"].items() if o["error"] is None and "opcua" not in name]
            sources = [n for n, s in status["sources"].items() if n != "rows" and not s["problems"]]
            said["waits for"] = f"{outputs} {sources}"
            return not outputs and not sources

        gateway.wait(failed, "every source and output to fail")
        for page in ("/status", "/metrics", "/orders", "/held-orders", "/held-events", "/decisions"):
            said[page] = gateway.text("gw", page)
        for words in (("status",), ("check",), ("status", "--json")):
            done = subprocess.run(
                [str(BIN / "fedge-agent"), *words, "--config", "gw.toml"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            said[" ".join(words)] = done.stdout + done.stderr
    finally:
        gateway.end()
    said["log"] = (tmp_path / "gw.log").read_text()
    for where, text in said.items():
        for secret in (*SECRETS, "operat0r", "pa55w0rd", KEY):
            assert secret not in text, f"{where}: …{text[max(0, text.find(secret) - 200) : text.find(secret) + 50]}"
    assert f"127.0.0.1:{echo}/***" in said["status"] and f"127.0.0.1:{echo}/***" in said["log"]


@pytest.mark.parametrize("wrong", ["http//{at}", "nothttp://{at}", "{scheme}://{login}{at}", "{scheme}://h:port{rest}"])
@pytest.mark.parametrize("kind", [*SOURCE_TABLES, *OUTPUT_TABLES])
def test_an_address_that_is_refused_is_not_shown_either(tmp_path: Path, kind: str, wrong: str) -> None:
    for tables, build in ((SOURCE_TABLES, build_source), (OUTPUT_TABLES, build_output)):
        if kind not in tables or kind == "camera":
            continue
        text = tables[kind].format(at="h" + REST, login="", name="x")
        scheme = text.split("://")[0].rpartition('"')[2]
        url = wrong.format(at="h" + REST, login=LOGIN, rest=REST, scheme=scheme)
        path = tmp_path / "x.toml"
        path.write_text(f'type = "{kind}"\n' + text.replace(f"{scheme}://h{REST}", url))
        with pytest.raises(FedgeError) as refused:
            build("x", settings.read(path), "gw.toml", tmp_path)
        assert not [s for s in (*SECRETS, "operat0r", "pa55w0rd") if s in str(refused.value)], refused.value


@pytest.mark.parametrize("rest", ["?x=k3yQUERY", "/plant?x=k3yQUERY", "/plant#FRAGm3nt"])
def test_an_opc_ua_address_with_a_query_is_refused(rest: str) -> None:
    with pytest.raises(FedgeError, match=r"url 'opc.tcp://h:4840/\*\*\*' has a query"):
        build_source("x", {"type": "opcua", "url": f"opc.tcp://h:4840{rest}"}, "gw.toml", None)


@pytest.mark.parametrize(
    "url",
    [
        f"mqtt://{LOGIN}h:1{REST}",
        f"http://h{REST}",
        f"rtsp://{LOGIN}h/T0",
        f"opc.tcp://{LOGIN}h/",
        f"opc.tcp://h{REST}",
    ],
)
def test_browse_shows_no_secret_of_an_address(url: str) -> None:
    done = CliRunner().invoke(main, ["browse", url])
    text = done.output + str(done.exception)
    assert done.exit_code and "://h" in text and not [s for s in (*SECRETS, "operat0r", "pa55w0rd") if s in text]


def test_a_preview_of_work_orders_shows_of_a_step_only_what_the_event_fills_in() -> None:
    asked = {"reference": "{key}", "k": "k3yQUERY"}
    find = Step(method="GET", url="/T000PATH?key=k3yQUERY", query=asked, rows="", id="/id")
    create = Step(url="/T000PATH?apikey=k3yQUERY", body={"text": "{key}"}, id="/id")
    for url in ("http://h", f"http://h{REST}"):
        config = MesConfig(url=url, find=find, create=create)
        caller, known = Caller(config, "output.x"), {"key": "gw:m:pump:1", "asset": "pump"}
        shown = [caller.preview(step, known, "gw:m:pump:1") for step in (find, create)]
        assert not [s for s in SECRETS if s in str(shown)], shown
        assert shown[0]["url"] == "http://h/***" and shown[0]["query"] == {"reference": "gw:m:pump:1", "k": "***"}


def test_no_type_with_an_address_is_left_out() -> None:
    for registry, tables in ((SOURCES, SOURCE_TABLES), (OUTPUTS, OUTPUT_TABLES)):
        for name in registry:
            fields = plugins.load_class(registry[name]).Config.__struct_fields__
            assert (name in tables) == bool({"url", "device"} & set(fields)), name
