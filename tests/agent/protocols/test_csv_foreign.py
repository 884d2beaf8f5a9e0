# SPDX-License-Identifier: Apache-2.0
"""Files that are no text table are named for what they are, by whoever reads them; texts never are."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
from pathlib import Path

import pytest
from fedge_agent.protocols.csv import foreign
from fedge_agent.protocols.csv.guess import understand
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_models.errors import ConfigError, DataError
from support.recording_host import RecordingHost

NOISE = random.Random(3).randbytes(20_000)


def archive(name: str, text: bytes = b"time,a\n1,2\n") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr(name, text)
    return made.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "a Parquet file": (b"PAR1" + NOISE, "Apache Parquet"),
    "an MDF 4 measurement": (b"MDF     4.10    " + NOISE, "ASAM MDF"),
    "a TDMS file": (b"TDSm" + NOISE, "NI TDMS"),
    "an HDF5 file": (b"\x89HDF\r\n\x1a\n" + NOISE, "HDF5"),
    "an old workbook": (bytes.fromhex("d0cf11e0a1b11ae1") + NOISE, r"old Excel workbook \(.xls\).*save the sheet"),
    "a new workbook under another name": (archive("[Content_Types].xml"), "Excel workbook.*end with .xlsx"),
    "an archive": (archive("log.csv"), "ZIP archive, not a text table; unpack it"),
    "gzip under another name": (gzip.compress(b"a,b\n1,2\n"), "gzip.*end with .gz"),
    "JSON": (b'[{"time": "2026-11-24T08:00:00Z", "a": 1},\n {"a": 2}]\n', "is JSON.*MQTT or HTTP"),
    "lines of JSON": (b'{"a": 1}\n{"a": 2}\n', "is JSON"),
    "XML": (b'<?xml version="1.0"?>\n<rows><row a="1"/></rows>\n', "XML or HTML"),
    "a page": (b"<html><body><table><tr><td>1</td></tr></table></body></html>\n", "XML or HTML"),
    "noise": (NOISE, "binary data"),
    "numbers as bytes": (struct.pack("<900d", *(i / 2 for i in range(900))), "binary data"),
    "only NUL": (b"\0" * 5000, "binary data"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_file_that_is_no_table_is_named_by_browse_check_replay_and_tail(tmp_path: Path, name: str) -> None:
    data, words = FOREIGN[name]
    path = tmp_path / "d.csv"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        understand(path)
    for tail in (False, True):
        source = FilesSource("csv", FilesConfig(path=path, tail=tail, start="begin"))
        assert [p for p in source.check(["a"]) if words.split(".*")[0].replace("\\", "") in p]
        with pytest.raises(ConfigError, match=words):
            source.run(["a"], RecordingHost(tmp_path))


TEXTS: dict[str, tuple[bytes, str]] = {
    "names in angle brackets": (b"<DATE>,<TIME>,<VALUE>\n20261124,080000,1\n", ""),
    "names in angle brackets and tabs": (b"<DATE>\t<TIME>\n20261124\t080000\n", ""),
    "a preamble like an ini file": (b"[Header]\nrate=1\n[Data]\ntime,a\n1,2\n", ""),
    "NULs of a power cut": (b"time,a\n" + b"1,2\n" * 20 + b"\0" * 3000 + b"\n3,4\n", ""),
    "Japanese": (("日時,温度\n" + "2026/11/24 08:00:00,1\n" * 90).encode("cp932"), "cp932"),
    "Chinese in UTF-16": (("时间\t温度\n" + "测量\t数据\n" * 90).encode("utf-16-le"), "utf-16-le"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_is_not_taken_for_anything_else(name: str) -> None:
    foreign.refuse(*TEXTS[name])


def test_text_of_two_bytes_a_character_is_only_text_where_the_key_says_so() -> None:
    data, encoding = TEXTS["Chinese in UTF-16"]
    with pytest.raises(DataError, match="binary data"):
        foreign.refuse(data, "")
    foreign.refuse(data, encoding)
