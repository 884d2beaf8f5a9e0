# SPDX-License-Identifier: Apache-2.0
"""A rehearsed configuration: what differs from the user's, that nothing leaves the machine, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from click.testing import CliRunner
from fedge_agent.config import schema
from fedge_agent.outputs.registry import OUTPUTS
from fedge_agent.sources.mqtt_payload import Payload, Reader
from fedge_agent.sources.registry import SOURCES
from fedge_agent.types import Quality, Reading
from fedge_aggregator.config import load as aggregator
from fedge_aggregator.config import schema as aggregator_config
from fedge_fleet.cli import main
from fedge_fleet.machines import opcua_tags
from fedge_fleet.machines.mqtt_tags import messages
from fedge_fleet.machines.opcua_tags import Step
from fedge_fleet.rehearse import folder, loopback, outputs, paces, plan, served, sources, toml_text
from fedge_fleet.rehearse.plan import Plan
from fedge_fleet.rehearse.run import Options, rehearse
from fedge_fleet.rehearse.settings import GatewaySettings, ModelSettings, Settings, SourceSettings
from fedge_models.errors import ConfigError, StopError
from fedge_models.system import settings
from support.paths import ROOT
from support.rehearsal import AGGREGATOR, OUTPUT, write_agent, write_folder, write_recording

PICTURE = b"P5 2 2 255 " + bytes(4)
SECRETS = ("hunter2", "s3cret", "t0ken")
# A source of each type with an address beyond this machine, and secrets in all places that have any.
SOURCES_OUTSIDE = {
    "camera": 'device = "rtsp://viewer:hunter2@192.0.2.7/stream?token=t0ken"',
    "files": 'path = "/srv/nowhere/press.csv"\ntail = true\ntime_column = "time"',
    "http": 'url = "https://mes.plant.example/api/1?token=t0ken"\nheaders = { X-Key = "s3cret" }',
    "images": 'path = "/srv/nowhere/pictures"\nafter = "move"\nmove_to = "/srv/nowhere/done"',
    "mqtt": 'url = "mqtts://broker.plant.example:8883"\nclient_id = "gw"\nusername = "gw"\npassword_file = "/etc/f"',
    "opcua": 'url = "opc.tcp://192.0.2.10:4840"\nsecurity = "Basic256Sha256/Sign"\ncertificate = "/etc/fedge/gw.der"'
    '\nprivate_key = "/etc/fedge/gw.pem"',
    "sparkplug": 'url = "mqtts://broker.plant.example:8883"\nhost_id = "plant"',
}
OUTPUTS_OUTSIDE = {
    "log": 'path = "/srv/nowhere/events.jsonl"',
    "mes": 'url = "https://mes.plant.example/orders?token=t0ken"\nheaders = { X-Key = "s3cret" }',
    "mqtt": 'url = "mqtts://broker.plant.example:8883"\ndecisions = "newest"',
    "opcua": 'url = "opc.tcp://192.0.2.10:4840"\nevents = { "ns=2;s={asset}.Alert" = "{alert}" }',
    "opcua-server": 'listen = "0.0.0.0:4841"\nsecurity = ["Basic256Sha256/Sign"]',
    "sparkplug": 'url = "mqtts://broker.plant.example:8883"\ngroup = "g"\nnode = "n"',
    "webhook": 'url = "https://hooks.plant.example/x?token=t0ken"\nheaders = { Authorization = "Bearer s3cret" }',
}
PICTURED = ("camera", "images")


def source(kind: str) -> str:
    return f'type = "{kind}"\n{SOURCES_OUTSIDE[kind]}'


def prepared(root: Path, speed: float | None = None, connectors: bool = False) -> Plan:
    return plan.prepare(folder.read(root), root.parent / "scratch", speed, 3, None, connectors)


def one_gateway(root: Path, kind: str = "opcua", output: str = OUTPUT) -> Path:
    """A folder with one gateway whose only source has this type, and its recording."""
    write_folder(root, ())
    write_agent(root / "gw.toml", "gw", source(kind), output)
    if kind in PICTURED:
        (root / "plc").mkdir()
        (root / "plc/1.pgm").write_bytes(PICTURE)
        text = (root / "gw.toml").read_text().replace("ns=2;s=Pump1.Current", "*").replace("ns=2;s=Pump1.Flow", "*")
        (root / "gw.toml").write_text(text)
    else:
        write_recording(root / "plc.csv")
    return root


def hashes(root: Path) -> dict[Path, str]:
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def test_every_type_is_tried_here() -> None:
    assert set(SOURCES_OUTSIDE) == set(SOURCES) == set(sources.REPLAYS)
    assert set(OUTPUTS_OUTSIDE) == set(OUTPUTS)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_of_any_type_becomes_a_local_one(tmp_path: Path, kind: str) -> None:
    root = one_gateway(tmp_path / "user", kind)
    before = hashes(root)
    made = prepared(root)
    written = schema.load(made.gateways["gw"].config)
    assert written.source["plc"]["type"] in loopback.LOCAL_SOURCES
    assert Path(written.source["plc"]["path"]).is_relative_to(tmp_path / "scratch")
    assert set(written.asset["pump-1"].channels) == {"current_A", "flow"}
    config = made.gateways["gw"].config.read_text() + "\n".join(made.words)
    assert "nowhere" not in made.gateways["gw"].config.read_text()
    assert not any(secret in config for secret in SECRETS)
    assert hashes(root) == before
    assert any(f"[source.plc] ({kind}" in word for word in made.words)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_output_of_any_type_becomes_a_file(tmp_path: Path, kind: str) -> None:
    table = f'[output.out]\ntype = "{kind}"\n{OUTPUTS_OUTSIDE[kind]}\n'
    made = prepared(one_gateway(tmp_path / "user", output=table))
    written = schema.load(made.gateways["gw"].config).output["out"]
    assert written["type"] == "log" and Path(written["path"]).is_relative_to(tmp_path / "scratch")
    assert any(f"[output.out] ({kind}" in word and "nothing is sent" in word for word in made.words)
    assert not any(secret in word for secret in SECRETS for word in made.words)
    assert set(outputs.VALUES_TOO) < set(OUTPUTS)


def test_what_the_user_configured_stays(tmp_path: Path) -> None:
    made = prepared(write_folder(tmp_path / "user"), speed=10)
    theirs, ours = schema.load(tmp_path / "user/press-1.agent.toml"), schema.load(made.gateways["press-1"].config)
    assert ours.asset["pump-1"].when == theirs.asset["pump-1"].when
    assert ours.asset["pump-1"].channels["flow"].range == (0, 1000)
    assert ours.agent.name == "press-1" and ours.agent.status == "127.0.0.1:0"
    training = msgspec.structs.asdict(theirs.model["pump"].training)
    trained = msgspec.structs.asdict(ours.model["pump"].training)
    assert trained.pop("interval") == pytest.approx(39.9 / 5, abs=1e-3)
    assert training.pop("interval") == 3600 and trained == training
    assert made.aggregator is not None
    server = aggregator.load(made.aggregator)
    assert server.aggregator.addresses == ("127.0.0.1",) and server.aggregator.listen == "127.0.0.1:0"
    assert (
        server.federation["pump"].trust == aggregator.load(tmp_path / "user/aggregator.toml").federation["pump"].trust
    )


def test_every_path_of_the_configurations_is_dealt_with() -> None:
    """A path that is relative to the user's file would name another one in the scratch folder."""

    def paths(type_: Any, key: str) -> set[str]:
        found = set[str]()
        for field in msgspec.structs.fields(type_):
            for inner in (field.type, *get_args(field.type)):
                if inner is Path:
                    found.add(f"{key}{field.name}")
                elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                    found |= paths(inner, f"{key}{field.name}.")
        return found

    assert paths(schema.Config, "") == {"agent.state", "model.file", "model.card", "asset.inspection.path"}
    wanted = {"aggregator.state", "aggregator.scratch", "federation.held_back"}
    assert paths(aggregator_config.Config, "") == wanted


def test_templates_are_filled_in(tmp_path: Path) -> None:
    root = one_gateway(tmp_path / "user")
    text = (root / "gw.toml").read_text().replace("[asset.pump-1]", "[template.pump]").replace("Pump1.", "{name}.")
    (root / "gw.toml").write_text(text.replace("[output.mes]", '[asset.pump-1]\ntemplate = "pump"\n\n[output.mes]'))
    written = schema.load(prepared(root).gateways["gw"].config)
    assert not written.template and written.asset["pump-1"].channels["flow"].tag == "flow"


def test_missing_recordings_are_listed_together_with_what_they_need(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user")
    (root / "press-1/plc.csv").unlink()
    (root / "press-2/plc.csv").write_text("time,current_A\n2026-03-01T08:00:00,1\n2026-03-01T08:00:01,2\n")
    with pytest.raises(ConfigError) as refused:
        prepared(root)
    first, second = str(refused.value).split("\n")
    assert "press-1: [source.plc] has no recording" in first and str(root / "press-1/plc.csv") in first
    assert "pump-1.flow" in second and "'ns=2;s=Pump1.Flow'" in second and "It has: 'time', 'current_A'" in second


def test_columns_are_named_in_the_file_of_the_rehearsal(tmp_path: Path) -> None:
    root = one_gateway(tmp_path / "user")
    text = (root / "plc.csv").read_text().replace("current_A,flow", "I [A],Q")
    (root / "plc.csv").write_text(text)
    (root / "rehearse.toml").write_text('[source.plc]\ncolumns = { current_A = "I [A]", "ns=2;s=Pump1.Flow" = "Q" }\n')
    written = schema.load(prepared(root).gateways["gw"].config)
    assert {c.tag for c in written.asset["pump-1"].channels.values()} == {"I [A]", "Q"}
    (root / "rehearse.toml").write_text('[source.plc]\ncolumns = { curent_A = "I [A]" }\n')
    with pytest.raises(ConfigError, match=r"nothing of gateway gw is named 'curent_A'; expected pump-1\.current_A"):
        prepared(root.rename(tmp_path / "again"))


@pytest.mark.parametrize("key", ["label", "context.job", "shaft_rpm"])
def test_what_is_not_recorded_can_be_left_out_but_for_channels(tmp_path: Path, key: str) -> None:
    root = one_gateway(tmp_path / "user")
    text = (root / "gw.toml").read_text()
    tag = f'{key} = {{ source = "plc", tag = "ns=2;s=Other" }}'
    (root / "gw.toml").write_text(text.replace("baseline =", f"{tag}\nbaseline ="))
    (root / "rehearse.toml").write_text(f'[source.plc]\ncolumns = {{ {key.rpartition(".")[2]} = "" }}\n')
    written = schema.load(prepared(root).gateways["gw"].config).asset["pump-1"]
    assert set(written.tags()) == {"channels.current_A", "channels.flow"}
    (root / "rehearse.toml").write_text('[source.plc]\ncolumns = { flow = "" }\n')
    with pytest.raises(ConfigError, match=r"pump-1\.flow"):
        prepared(root.rename(tmp_path / "again"))


def test_tables_that_are_replaced_are_checked_all_the_same(tmp_path: Path) -> None:
    root = one_gateway(tmp_path / "user", output=OUTPUT.replace("https://mes", "https://gw:pw@mes"))
    text = (root / "gw.toml").read_text().replace('"opc.tcp', '"http')
    (root / "gw.toml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        prepared(root)
    assert "expected opc.tcp://host:port/path" in str(refused.value)
    assert "url holds a name or password" in str(refused.value)
    assert all(line.startswith(str(root / "gw.toml")) for line in str(refused.value).split("\n"))


def test_a_label_is_read_with_its_words(tmp_path: Path) -> None:
    root = one_gateway(tmp_path / "user")
    tag = 'label = { source = "plc", tag = "ns=2;s=Fault", map = { "2" = "anomaly" } }'
    (root / "gw.toml").write_text((root / "gw.toml").read_text().replace("baseline =", f"{tag}\nbaseline ="))
    (root / "rehearse.toml").write_text('[source.plc]\ncolumns = { label = "flow" }\n')
    label = schema.load(prepared(root).gateways["gw"].config).asset["pump-1"].label
    assert label is not None and (label.tag, label.map) == ("flow", {"2": "anomaly"})


def test_an_asset_of_two_recordings_without_a_time_in_common_is_a_problem(tmp_path: Path) -> None:
    root = one_gateway(tmp_path / "user")
    text = (root / "gw.toml").read_text().replace("[model.pump]", '[source.two]\ntype = "opcua"\n'
                                                  'url = "opc.tcp://192.0.2.2:4840"\n\n[model.pump]')  # fmt: skip
    (root / "gw.toml").write_text(text.replace('flow = { source = "plc"', 'flow = { source = "two"'))
    (root / "two.csv").write_text((root / "plc.csv").read_text().replace("2026", "2025"))
    assert "'plc' and 'two' have no time in common" in prepared(root).problems["gw"][0]


def test_a_gateway_may_be_named_as_the_aggregator(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user", ("aggregator",))
    made = prepared(root)
    assert schema.load(made.gateways["aggregator"].config).agent.name == "aggregator"
    assert made.aggregator is not None and aggregator.load(made.aggregator)


def test_what_is_kept_may_not_lie_among_the_users_files(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user")
    found = CliRunner().invoke(main, ["rehearse", str(root), "--keep", str(root / "kept")])
    assert found.exit_code == 1 and "would take its files for yours" in found.stderr


def test_recordings_that_take_too_long_are_said_before_the_start(tmp_path: Path) -> None:
    made = plan.prepare(folder.read(write_folder(tmp_path / "user")), tmp_path / "scratch", 1, 3, 60)
    assert any("take 7 min at 1 times real time, and the rehearsal ends after 1" in word for word in made.words)


def test_two_gateways_of_one_name_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user")
    write_agent(root / "other.toml", "press-1")
    with pytest.raises(
        ConfigError, match=r"other\.toml and .*press-1\.agent\.toml: both gateways have the name 'press-1'"
    ):
        folder.read(root)


FOLDERS = {
    "no gateway": ({"aggregator.toml": AGGREGATOR}, "no gateway was found"),
    "two aggregators": (
        {"a.toml": AGGREGATOR, "b.toml": AGGREGATOR},
        r"one file with \[aggregator\], got .*a.toml",
    ),
    "no TOML": ({"a.toml": "[agent"}, r"a\.toml: not valid TOML"),
    "a key": ({"a.toml": '[agent]\nname = "x"\nstate = "s"\nstat = "t"'}, "unknown key 'agent.stat'"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_that_cannot_be_rehearsed_are_refused_in_words(tmp_path: Path, name: str) -> None:
    texts, words = FOLDERS[name]
    for file, text in texts.items():
        (tmp_path / file).write_text(text)
    found = CliRunner().invoke(main, ["rehearse", str(tmp_path)])
    assert found.exit_code == 1
    with pytest.raises(ConfigError, match=words):
        folder.read(tmp_path)


def test_a_name_of_the_rehearsal_file_that_no_gateway_has_is_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user")
    (root / "rehearse.toml").write_text('[gateway.press-3.source.plc]\nrecording = "x.csv"\n')
    with pytest.raises(ConfigError, match=r"key 'gateway': 'press-3' is not configured"):
        folder.read(root)


def test_a_federation_without_a_model_is_refused_with_where_it_was_looked_for(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "user")
    (root / "pump.onnx").unlink()
    with pytest.raises(ConfigError, match=r"federation 'pump' has no model file: expected .*pump\.onnx"):
        prepared(root)


OUTSIDE: dict[str, tuple[dict[str, Any], str]] = {
    "a source": ({"source": {"s": {"type": "opcua", "url": "opc.tcp://192.0.2.1:4840"}}}, "another machine"),
    "a source with a login": ({"source": {"s": {"type": "mqtt", "url": "mqtt://127.0.0.1@plant.example"}}}, "another"),
    "a device": ({"source": {"s": {"type": "files", "path": "/dev/video0"}}}, "device"),
    "a camera": ({"source": {"s": {"type": "camera", "device": "0"}}}, "was not replaced"),
    "an output": ({"output": {"o": {"type": "mes", "url": "http://127.0.0.1/x"}}}, "was not replaced"),
    "a listener": ({"aggregator": {"listen": "0.0.0.0:8443"}}, "beyond loopback"),
    "an address": ({"aggregator": {"addresses": ["plant.example"]}}, "beyond loopback"),
    "a cluster": ({"federation": {"f": {"engine": "dask://head:8786"}}}, "another machine"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_leads_out_of_the_machine_is_not_started(name: str) -> None:
    table, words = OUTSIDE[name]
    with pytest.raises(StopError, match=words):
        loopback.check(table, "gw.toml")


def test_a_local_configuration_passes(tmp_path: Path) -> None:
    made = prepared(write_folder(tmp_path / "user"))
    loopback.check(settings.read(made.gateways["press-1"].config), "")


def test_of_a_webhook_only_scheme_and_host_are_shown() -> None:
    """Its path is a secret: who knows it can post."""
    secret = "T000/B000/XyZ123"
    for rest, shown in ((f"/services/{secret}", "/***"), (f"?u={secret}", "/***"), ("", "")):
        table = {"type": "webhook", "url": f"https://hooks.example:8443{rest}"}
        assert outputs.described(table) == f"webhook, https://hooks.example:8443{shown}"
    (made,) = outputs.words("gw", "chat", {"type": "webhook", "url": f"https://hooks.example/{secret}"}, "gw.toml")
    assert secret not in made and "https://hooks.example/***" in made


def test_a_folder_to_keep_is_looked_for_where_its_path_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user").mkdir()
    monkeypatch.chdir(tmp_path / "user")
    how = Options(None, 0, None, False, Path("../kept"))
    with pytest.raises(ConfigError) as refused:
        rehearse(Path(), how, print)  # it gets as far as the folder, which is empty
    assert "--keep" not in str(refused.value)
    (tmp_path / "link").symlink_to(tmp_path / "user")
    with pytest.raises(ConfigError, match=r"--keep .*: lies in"):
        rehearse(Path(), how._replace(keep=tmp_path / "link/kept"), print)


def test_tables_survive_being_written_as_toml(tmp_path: Path) -> None:
    example = settings.read(ROOT / "agent/fedge_agent/agent.example.toml")
    odd = {"a b": {"x.y": {'"q"': {"deep": [1, 2.5, True, 'a\n"b"\\'], "none": {}}}}, "t": "ü"}
    for table in (example, odd):
        (tmp_path / "t.toml").write_text(toml_text.text(table))
        assert settings.read(tmp_path / "t.toml") == table


def test_the_speed_follows_from_the_longest_recording_and_what_a_machine_can_take() -> None:
    assert paces.speed([60.0], 100, None) == 1
    assert paces.speed([3600.0, 60.0], 10_000, None) == 20
    assert paces.speed([3600.0], 10_000, 120.0) == 60
    assert paces.speed([3600.0], 72_000_000, None) == 1
    assert paces.interval_s(3600, 20, 180, 3) == 36 and paces.interval_s(10, 20, 180, 3) == 1


def test_every_key_of_the_rehearsal_file_is_documented() -> None:
    text = (ROOT / "docs/operator/rehearse.md").read_text("utf-8")
    for struct in (Settings, SourceSettings, GatewaySettings, ModelSettings):
        assert not [name for name in struct.__struct_fields__ if name not in text]


@pytest.mark.parametrize("kind", served.REASONS)
def test_a_served_source_keeps_its_keys_but_for_address_and_security(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "program", lambda name: name)  # whether mosquitto is installed here does not matter
    root = one_gateway(tmp_path / "user", kind)
    text = (root / "gw.toml").read_text().replace(SOURCES_OUTSIDE[kind], f"{SOURCES_OUTSIDE[kind]}\ntimeout = 3")
    (root / "gw.toml").write_text(text)
    made = prepared(root, 1, connectors=True)
    written, theirs = schema.load(made.gateways["gw"].config), schema.load(root / "gw.toml")
    table = written.source["plc"]
    assert table["type"] == kind and table["timeout"] == 3 and "://127.0.0.1:" in table["url"]
    assert not set(table) & set(served.SECURITY)
    assert written.asset["pump-1"].channels == theirs.asset["pump-1"].channels
    machine = made.gateways["gw"].machines["plc"]
    told = msgspec.json.decode(machine.plan.read_bytes())
    assert told["tags"] == {"ns=2;s=Pump1.Current": "current_A", "ns=2;s=Pump1.Flow": "flow"}


def test_what_cannot_be_served_is_replayed_as_a_file_and_said(tmp_path: Path) -> None:
    root = one_gateway(tmp_path / "user")
    text = (root / "gw.toml").read_text().replace("ns=2;s=Pump1.Flow", "Pump*/Flow")
    (root / "gw.toml").write_text(text)
    made = prepared(root, 1, connectors=True)
    assert schema.load(made.gateways["gw"].config).source["plc"]["type"] == "files"
    assert any("tag 'Pump*/Flow' is a path with a wildcard" in word for word in made.words)


TAGS = {
    "ns=2;s=a": "",
    "nsu=urn:plc;i=7": "",
    "Pump1/Current": "",
    "/Objects/2:Pump1/2:Current": "",
    "i=2258": "namespace 0",
    "ns=2;s=a#Axis.Rms": "a field",
    "Pump*/Current": "wildcard",
    "/Types/0:a": "/Objects",
}


@pytest.mark.parametrize("tag", TAGS)
def test_tags_that_cannot_be_served_are_known(tag: str) -> None:
    why = opcua_tags.why_not(tag)
    assert TAGS[tag] in why and bool(why) == bool(TAGS[tag])


def test_messages_are_as_the_gateway_reads_them() -> None:
    tags = {"line/state#/m/current": "a", "line/state#/m/job": "b", "line/flow": "c", "line/dead": "d"}
    columns = {column: [tag] for tag, column in tags.items()}
    steps = [Step(0.0, "a", 1.5), Step(0.0, "b", "J1"), Step(0.0, "c", 7.0), Step(0.0, "d", None)]
    at = 1_772_352_000.25
    reader = Reader(list(tags), Payload(url="mqtt://127.0.0.1", time="/ts"))
    sent = messages(columns, steps, "/ts", at)
    readings, complaints = reader.read("line/state", sent["line/state"], 0)
    assert {r.tag: r.value for r in readings} == {"line/state#/m/current": 1.5, "line/state#/m/job": "J1"}
    assert {r.time_ns for r in readings} == {1_772_352_000_250_000_000} and not complaints
    plain = Reader(list(tags), Payload(url="mqtt://127.0.0.1"))
    assert plain.read("line/flow", sent["line/flow"], 5)[0] == [Reading("line/flow", 5, 7.0)]
    assert plain.read("line/dead", sent["line/dead"], 5)[0][0].quality is Quality.BAD


def test_connectors_run_in_real_time(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["rehearse", str(tmp_path), "--connectors", "--speed", "5"])
    assert found.exit_code == 1 and "--connectors runs in real time, so --speed is 1 then; got 5" in found.stderr
