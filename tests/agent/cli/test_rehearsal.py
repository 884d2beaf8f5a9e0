# SPDX-License-Identifier: Apache-2.0
"""`check` makes windows of what it read: what would keep the running agent from ever deciding fails, in its words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.cli.rehearsal import rehearse
from fedge_agent.config.schema import AssetConfig, TagConfig, WindowConfig
from fedge_agent.sources import files, http
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.sources.polling import polled, published
from fedge_agent.types import Batch, Reading
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

T0 = datetime(2026, 3, 1, 8, tzinfo=timezone.utc)
CARD = Card("anomaly", (Channel("temp"), Channel("press")), WindowSpec(1, 5, 1), ("mean", "std"))
SLOW = "but a value counts for 3 s in a window of 5 s: read more often, or set window.max_hold to"
KEYS = 'type = "files"\ntime_column = "time"\ntail = true\nstart = "begin"\n'


def iso(seconds: float) -> str:
    return (T0 + timedelta(seconds=seconds)).isoformat()


def wide(step: float = 1.0, rows: int = 200, begin: float = 0.0, press: Callable[[int], str] = lambda i: "1.5") -> str:
    made = [f"{iso(begin + i * step)},{20 + i % 7},{press(i)}\n" for i in range(rows)]
    return "time,temp,press\n" + "".join(made)


def long(every: int) -> str:
    made = [f"{iso(i)},temp,{20 + i % 7}\n" + (f"{iso(i)},press,1.5\n" if i % every == 0 else "") for i in range(200)]
    return "time,tag,value\n" + "".join(made)


def shuffled(step: float) -> str:
    head, *rows = wide(step).splitlines(keepends=True)
    return head + "".join(rows[1::2] + rows[::2])


class Case(NamedTuple):
    """Rows, what `check` says of them (empty: nothing), and whether it fails."""

    rows: str
    words: str = ""
    keys: str = KEYS
    more: str = ""
    fails: bool = True


LONG = KEYS + 'tag_column = "tag"\nvalue_column = "value"\n'
REPLAY = 'type = "files"\ntime_column = "time"\n'
CASES = {
    "a row a minute": Case(wide(60), f"temp, press come every 60 s, {SLOW} 60 s or more"),
    "a row a minute, held": Case(wide(60), more='window = { max_hold = "61s" }\n', fails=False),
    "rows slower than a window": Case(wide(10), f"temp, press come every 10 s, {SLOW} 10 s or more"),
    "rows slower than max_hold": Case(
        wide(), "60 % of temp is missing, which comes every 1 s, but a value counts for 0.3 s in a window of 5 s",
        more="window = { max_hold = 0.3, rate_hz = 10, length = 50 }\n",
    ),
    "bursts with long breaks between them": Case(
        "time,temp,press\n" + "".join(f"{iso(i // 3 * 20 + i % 3)},20,1\n" for i in range(99)), "come every 18 s"
    ),
    "a row every two seconds": Case(wide(2), fails=False),
    "a hundred rows a second": Case(wide(0.01, 900), fails=False),
    "one channel of two is slower": Case(long(60), f"press is missing, which comes every 60 s, {SLOW} 60 s", LONG),
    "one channel of two is a little slower": Case(long(3), "", LONG, fails=False),
    "a channel that is always empty": Case(wide(press=lambda i: ""), "tag press has been Bad since"),
    "a channel that is mostly empty": Case(wide(press=lambda i: "" if i % 3 else "1"), "60 % of press is missing (of"),
    "a channel that is empty at first": Case(wide(press=lambda i: "" if i < 50 else "1"), fails=False),
    "all rows of one time": Case(wide(0), "398 of 400 times of temp, press are not newer than 2026-03-01 08:00:00"),
    "times that show minutes": Case(
        "time,temp,press\n" + "".join(f"{iso(i // 60 * 60)},20,1\n" for i in range(180)), "times of temp, press are not"
    ),
    "comments that are all rows": Case(
        wide(), 'has no rows: comment = "2" leaves out all lines', KEYS + 'comment = "2"\n'
    ),
    "a comment of a quote before each row": Case(
        wide().replace("\n2", "\n'2"), "leaves out all lines behind the header, e.g. row 2: ", KEYS + 'comment = "\'"\n'
    ),
    "lines behind the header that are all rows": Case(
        wide(), "has no rows: skip_after = 5000 leaves out all lines", KEYS + "skip_after = 5000\n"
    ),
    "a line of units, and no row yet": Case("time,temp,press\ns,K,bar\n", keys=KEYS + "skip_after = 1\n", fails=False),
    "comments among rows": Case(wide().replace("\n", "\n# c\n"), keys=KEYS + 'comment = "#"\n', fails=False),
    "a quality that is never good": Case(
        wide().replace("press\n", "press,q\n").replace("1.5\n", "1.5,Good\n"),
        "no value has a quality that is used, e.g. temp: 'Good'; used are (good, uncertain): \"prima\"",
        KEYS + 'quality_column = "q"\ngood = ["prima"]\n',
    ),
    "out of range": Case(wide(press=lambda i: "99"), "values of press are outside of their range", more="range"),
    "too few rows": Case(wide(rows=3), "asset pump: no decision yet: 3 of 5 samples of the first window", fails=False),
    "one row": Case(wide(rows=1), "1 of 5 samples of the first window", fails=False),
    "a file of 1985": Case(wide(begin=-1_293_840_000), "source s: its times begin at 1985-03-01", fails=False),
    "a replay of a row a minute": Case(wide(60), keys=REPLAY, fails=False),
    "a replay of a row in ten minutes": Case(wide(600), f"come every 600 s, {SLOW} 600 s", REPLAY),
    "the same a hundred times as fast": Case(wide(600), keys=REPLAY + "speed = 100.0\n", fails=False),
    "a replay that is out of order": Case(shuffled(1), keys=REPLAY, fails=False),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "m.onnx").write_bytes(zoo.autoencoder(CARD, 4, (3, 2)).SerializeToString())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(folder: Path, sources: dict[str, str], press: str = "s", more: str = "") -> tuple[int, str]:
    text = '[agent]\nname = "gw"\nstate = "state"\nstatus = "127.0.0.1:0"\n[model.m]\nfile = "m.onnx"\n'
    text += "".join(f'[source.{name}]\npath = "{name}.csv"\n{keys}' for name, keys in sources.items())
    ranged, more = (", range = [0, 2]", "") if more == "range" else ("", more)
    text += f'[asset.pump]\nmodel = "m"\n{more}channels.temp = {{ source = "s", tag = "temp" }}\n'
    text += f'channels.press = {{ source = "{press}", tag = "press"{ranged} }}\n'
    (folder / "gw.toml").write_text(text)
    done = CliRunner().invoke(main, ["check", "--config", "gw.toml"])
    return done.exit_code, done.output


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_would_never_be_decided_on_fails_in_the_words_of_status(folder: Path, case: Case) -> None:
    (folder / "s.csv").write_text(case.rows)
    code, said = check(folder, {"s": case.keys}, more=case.more)
    assert code == (1 if case.fails else 0) and case.words in said, said


@pytest.mark.parametrize(
    ("offset", "scaling", "said"),
    [(0, "", False), (1e9, "", False), (2**53, "", True), (1e4, "file", False), (1e9, "file", True)],
)
def test_values_whose_changes_are_lost_are_noted(folder: Path, offset: float, scaling: str, said: bool) -> None:
    given: dict[str, Any] = {"scaling": scaling or None}
    card = msgspec.structs.replace(CARD, **given)
    (folder / "m.onnx").write_bytes(zoo.autoencoder(card, 4, (3, 2)).SerializeToString())
    (folder / "s.csv").write_text(wide(press=lambda i: f"{offset + i % 7:.1f}"))
    code, output = check(folder, {"s": KEYS})
    do = "export the network without its scaler" if scaling else "subtract an offset where they come from"
    assert code == 0 and (do in output) == said, output


def test_one_tag_for_two_channels_is_noted(folder: Path) -> None:
    (folder / "s.csv").write_text(wide())
    assert "all read tag" not in check(folder, {"s": KEYS})[1]
    (folder / "gw.toml").write_text((folder / "gw.toml").read_text().replace('tag = "press"', 'tag = "temp"'))
    output = CliRunner().invoke(main, ["check", "--config", "gw.toml"]).output
    assert "asset pump: the channels temp, press all read tag temp of source s" in output


@pytest.mark.parametrize(("begin", "code"), [(0, 0), (100, 0), (86_400, 1)])
def test_two_files_of_one_machine_have_a_time_in_common(folder: Path, begin: int, code: int) -> None:
    (folder / "s.csv").write_text(wide())
    (folder / "t.csv").write_text(wide(begin=begin))
    for there, keys in ((code, KEYS), (0, KEYS.replace('"begin"', '"end"'))):
        found, said = check(folder, {"s": KEYS, "t": keys}, "t")
        assert found == there and ("are up to 24 h behind those of the other channels" in said) == bool(there), said


@pytest.mark.parametrize(("step", "code"), [(1, 0), (60, 1)])
def test_a_source_is_tried_alone_where_another_says_nothing_before_it_runs(folder: Path, step: int, code: int) -> None:
    (folder / "s.csv").write_text(wide())
    (folder / "t.csv").write_text(wide(step).replace("time,", "when,"))
    found, said = check(folder, {"s": KEYS, "t": KEYS.replace('time_column = "time"', 'time_column = "when"')}, "t")
    assert found == code and (f"press comes every 60 s, {SLOW}" in said) == bool(code), said


def test_labels_that_the_model_does_not_know_are_named_and_fail_nothing(folder: Path) -> None:
    rows = wide().splitlines()
    (folder / "s.csv").write_text("\n".join([f"{rows[0]},state", *(f"{row},nromal" for row in rows[1:])]) + "\n")
    code, said = check(folder, {"s": KEYS}, more='label = { source = "s", tag = "state" }\n')
    assert code == 0 and "asset pump: the model does not know the label 'nromal': expected one of" in said
    code, said = check(
        folder, {"s": KEYS}, more='label = { source = "s", tag = "state", map = { nromal = "normal" } }\n'
    )
    assert code == 0 and "does not know" not in said


def later(count: int, begin: float, step: float = 1.0, temp: str = "20") -> str:
    """Rows without a header."""
    return "".join(f"{iso(begin + i * step)},{temp},1.5\n" for i in range(count))


HEAD = "time,temp,press\n"
RUNS = later(1500, 200_000)  # a row a second, as the machine runs
IDLE = {
    "a row a minute": (later(1500, 0, 60), "temp, press come every 60 s"),
    "no value": (later(1500, 0, temp=""), "tag temp has been Bad"),
    "out of range": (later(1500, 0, temp="-999"), "values of temp are outside of their range"),
    "text": (later(1500, 0, temp="OFF"), "values of temp are not numbers"),
}


@pytest.mark.parametrize("start", ["begin", "end"])
@pytest.mark.parametrize("name", IDLE)
def test_a_file_whose_last_rows_give_windows_is_fine_whatever_its_first_rows_are(
    folder: Path, name: str, start: str
) -> None:
    rows, words = IDLE[name]
    keys = KEYS.replace("begin", start)
    for text, code in ((HEAD + rows + RUNS, 0), (HEAD + rows, 1)):
        (folder / "s.csv").write_text(text)
        check(folder, {"s": keys})
        config = (folder / "gw.toml").read_text().replace('tag = "temp" }', 'tag = "temp", range = [-50, 200] }')
        (folder / "gw.toml").write_text(config)
        done = CliRunner().invoke(main, ["check", "--config", "gw.toml"])
        assert done.exit_code == code, done.output
        noted = "So it is in the first rows of source s only" in done.output
        assert noted == (code == 0 and start == "begin"), done.output
        assert words in done.output or (start == "end" and not code), done.output


def test_what_a_writer_does_today_fails_where_only_the_past_gave_windows_and_is_not_read(folder: Path) -> None:
    (folder / "s.csv").write_text(HEAD + later(1500, 0) + later(1500, 10_000, 60))
    assert check(folder, {"s": KEYS})[0] == 0
    code, said = check(folder, {"s": KEYS.replace("begin", "end")})
    assert code == 1 and f"temp, press come every 60 s, {SLOW}" in said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16"])
def test_the_last_rows_are_found_in_a_long_file_of_any_encoding(folder: Path, encoding: str) -> None:
    text = HEAD + later(9000, 0, 60) + later(1500, 600_000)
    (folder / "s.csv").write_bytes(text.encode(encoding))
    code, said = check(folder, {"s": f'{KEYS}encoding = "{encoding}"\n'})
    assert code == 0 and "in the first rows of source s only" in said


def test_a_tag_that_comes_later_is_there(folder: Path) -> None:
    others = "".join(f"{iso(i)},t{i % 9},1\n" for i in range(2500))
    own = "".join(f"{iso(9000 + i)},temp,2{i % 9}\n{iso(9000 + i)},press,1.5\n" for i in range(1500))
    (folder / "s.csv").write_text("time,tag,value\n" + others + own)
    assert check(folder, {"s": LONG})[0] == 0
    (folder / "s.csv").write_text("time,tag,value\n" + others)
    code, said = check(folder, {"s": LONG})
    assert code == 1 and "column 'tag' has no tag 'temp'" in said


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (later(200, 0) + later(200, 197), "2 of the first 400 rows are behind those above"),
        (later(50, 0) + "operator note\n" * 3 + later(350, 50), "3 of the first 403 rows are left out"),
        (later(50, 0) + "pause,1,2\n" + later(350, 50), "1 of the first 401 rows is left out"),
    ],
)
def test_a_few_rows_that_are_left_out_are_counted_and_fail_nothing(folder: Path, rows: str, said: str) -> None:
    (folder / "s.csv").write_text(HEAD + rows)
    code, output = check(folder, {"s": KEYS})
    assert code == 0 and said in output


def test_rows_tag_by_tag_that_come_in_time_are_noted(folder: Path) -> None:
    blocks = [f"{iso(b * 300 + i)},{tag},2{i % 9}\n" for b in range(4) for tag in ("temp", "press") for i in range(300)]
    (folder / "s.csv").write_text("time,tag,value\n" + "".join(blocks))
    code, said = check(folder, {"s": LONG}, more='window = { lateness = "10m" }\n')
    assert code == 0 and "it goes tag by tag" in said and "Without tail, it is sorted and replayed" in said


class Pace(files.FilesSource):
    """A source of which only the trial is looked at."""

    def __init__(self, trial: list[Batch]) -> None:
        super().__init__("s", FilesConfig(path=Path("s.csv")))
        self.trial = trial


def verdict(trial: list[Batch], **window: float) -> list[str]:
    tags = {c.name: TagConfig(source="s", tag=c.name) for c in CARD.channels}
    config = AssetConfig(model="m", channels=tags, window=WindowConfig(**window))  # type: ignore[arg-type]
    return rehearse("pump", config, CARD, {"s": Pace(trial)}).problems


@pytest.mark.parametrize(("every_s", "fine"), [(0.1, True), (20, True), (59, True), (60, False), (300, False)])
def test_a_source_that_says_what_is_unchanged_is_asked_at_least_once_a_minute(every_s: float, fine: bool) -> None:
    readings = [Reading(c.name, 10**18, 1.0) for c in CARD.channels]
    for trial in (polled(readings, every_s), published(readings, every_s, 10**18)):
        assert (verdict(trial) == []) == fine
    if not fine:
        assert f"{SLOW} {every_s:.3g} s" in verdict(polled(readings, every_s))[0]
        assert verdict(polled(readings, every_s), max_hold=1.1 * every_s) == []


def test_a_window_that_is_longer_than_the_trial_says_nothing() -> None:
    readings = [Reading(c.name, 10**18, 1.0) for c in CARD.channels]
    tags = {c.name: TagConfig(source="s", tag=c.name) for c in CARD.channels}
    config = AssetConfig(model="m", channels=tags, window=WindowConfig(length=50_000))
    assert rehearse("pump", config, CARD, {"s": Pace(polled(readings, 1.0))}) == ([], [])


def test_sources_without_a_pace_are_not_tried() -> None:
    assert polled([], 1.0) == [] and not http.HttpSource.trial and verdict([]) == []
