# SPDX-License-Identifier: Apache-2.0
"""Bytes to lines of text: byte order marks, UTF-16, and bytes that are not of the encoding. Pure."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from fedge_models.errors import DataError

MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Encoding(NamedTuple):
    """How a file's bytes are read."""

    name: str
    newline: bytes
    mark: int  # bytes of its byte order mark

    def cut(self, data: bytes) -> int:
        """The length up to and with the last line end; 0: there is none."""
        end = len(data)
        while (at := data.rfind(self.newline, 0, end)) >= 0:
            if at % len(self.newline) == 0:
                return at + len(self.newline)
            end = at + len(self.newline) - 1  # inside of two characters
        return 0

    def first_end(self, data: bytes) -> int:
        """The length up to and with the first line end; 0: there is none."""
        at = data.find(self.newline)
        while at >= 0 and at % len(self.newline):
            at = data.find(self.newline, at + 1)
        return at + len(self.newline) if at >= 0 else 0

    def decode(self, data: bytes) -> str:
        """The text; what is not of this encoding becomes U+FFFD."""
        return data.decode(self.name, "replace")

    def lines(self, data: bytes) -> list[str]:
        """The lines of some bytes without their ends, empty ones too, the last one unless it is empty."""
        found = self.decode(data).split("\n")
        if not found[-1]:
            found.pop()
        return [line.removesuffix("\r") for line in found]


def find(name: str, start: bytes) -> Encoding:
    """The encoding of a file that begins so; name: as configured. Raises DataError when its mark is of another one."""
    marked = next(((mark, found) for mark, found in MARKS if start.startswith(mark)), None)
    wanted = codecs.lookup(name).name if name else ""
    if marked is None:
        return _named({"utf-16": "utf-16-le", "utf-8-sig": "utf-8", "": "utf-8"}.get(wanted, wanted), 0)
    mark, found = marked
    if wanted not in ("", found, {"utf-8": "utf-8-sig"}.get(found, "utf-16")):
        raise DataError(f"begins with the byte order mark of {found}; the key encoding says {name!r}")
    return _named(found, len(mark))


def _named(name: str, mark: int) -> Encoding:
    return Encoding(name, "\n".encode(name), mark)
