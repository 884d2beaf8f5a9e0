# SPDX-License-Identifier: Apache-2.0
"""Files that are no text table, named for what they are by their first bytes, and what to do with each. Pure."""

from __future__ import annotations

import re

from fedge_models.errors import DataError

LOOKED_AT = 4096  # bytes
BINARY = 0.05  # share of control characters that no text has
FEW = 16  # control characters that damage may leave in any text
_EXPORT = "export its channels as CSV with the program that wrote it"
_UNPACK = "unpack it"
_SAVE = "save the sheet as .xlsx or as CSV"
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"PAR1", "an Apache Parquet file", "export it as CSV"),
    (b"ARROW1", "an Apache Arrow (Feather) file", "export it as CSV"),
    (b"MDF     ", "an ASAM MDF measurement (.mdf, .mf4)", _EXPORT),
    (b"UnFinMF ", "an ASAM MDF measurement that was not finished", _EXPORT),
    (b"TDSm", "an NI TDMS file", _EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (also .mat of MATLAB 7.3)", _EXPORT),
    (b"MATLAB 5.0 MAT-file", "a MATLAB file", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", "write it with numpy.savetxt, with a header"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls) or another Office file", _SAVE),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV"),
    (b"\x1f\x8b", "compressed with gzip", "let its name end with .gz"),
    (b"BZh", "compressed with bzip2", f"{_UNPACK}, or compress it as .gz"),
    (b"\xfd7zXZ\0", "compressed with xz", f"{_UNPACK}, or compress it as .gz"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", f"{_UNPACK}, or compress it as .gz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"%PDF", "a PDF document", "take the table it was made from"),
    (b"\x89PNG", "a picture", 'pictures are read by a source of type = "images"'),
    (b"\xff\xd8\xff", "a picture", 'pictures are read by a source of type = "images"'),
    (b"{\\rtf", "an RTF document", "save it as plain text"),
    (b"\xff\xfe\0\0", "UTF-32 text", "save it as UTF-8"),
    (b"\0\0\xfe\xff", "UTF-32 text", "save it as UTF-8"),
)
_JSON = re.compile(rb'\s*(\{\s*["}]|\[\s*[{\]"\[])')
_XML = re.compile(rb"\s*<(\?xml|!doctype|html|table|[A-Za-z][^,;\t>]*>(\s*\n\s*)?<)", re.I)
_TEXT_CONTROLS = frozenset(b"\t\n\r\f\x1a\x1b")
_CONTROLS = bytes(b for b in range(32) if b not in _TEXT_CONTROLS) + b"\x7f"
_NULS = re.compile(rb"\0{2,}")  # a power cut leaves blocks of them in a text


def refuse(start: bytes, encoding: str) -> None:
    """Raise DataError in words for the beginning of a file that is no text table. encoding: as configured."""
    kind, advice = _kind(start[:LOOKED_AT], encoding.lower().startswith("utf-16"))
    if kind:
        raise DataError(f"is {kind}, not a text table; {advice}")


def _kind(start: bytes, wide: bool) -> tuple[str, str]:
    for mark, kind, advice in _KINDS:
        if start.startswith(mark):
            return kind, advice
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _packed(start)
    plain = start.removeprefix(b"\xef\xbb\xbf")
    if _JSON.match(plain):
        return "JSON", 'write rows of CSV, or send it by MQTT or HTTP: sources of type "mqtt" and "http" read JSON'
    if _XML.match(plain):
        return "XML or HTML", "export the table as CSV"
    if not wide and _is_binary(start):
        return "binary data", "the files source reads text tables (CSV) and Excel workbooks (.xlsx)"
    return "", ""


def _packed(start: bytes) -> tuple[str, str]:
    """What an archive holds, by the name of its first members."""
    if b"opendocument.spreadsheet" in start:
        return "an OpenDocument spreadsheet (.ods)", _SAVE
    if b"[Content_Types].xml" in start or b"xl/" in start:
        return "an Excel workbook", "let its name end with .xlsx"
    if b".npy" in start:
        return "a NumPy archive (.npz)", "write its arrays with numpy.savetxt, with a header"
    return "a ZIP archive", f"{_UNPACK}, or compress the table as .gz"


def _is_binary(start: bytes) -> bool:
    """Whether these bytes are no text of an encoding whose line ends are one byte, nor UTF-16."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or is_wide(start):
        return False
    if start.partition(b"\n")[0].count(0) > FEW:
        return True
    rest = _NULS.sub(b"", start)
    return len(rest) - len(rest.translate(None, _CONTROLS)) > max(FEW, BINARY * len(rest))


def is_wide(start: bytes) -> str:
    """UTF-16 without a byte order mark: "utf-16-le" or "utf-16-be"; else empty."""
    even, odd = start[0:LOOKED_AT:2], start[1:LOOKED_AT:2]
    for high, low, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if high.count(0) * 2 > len(high) and len(low) - len(low.translate(None, _CONTROLS)) <= BINARY * len(low):
            return name
    return ""
