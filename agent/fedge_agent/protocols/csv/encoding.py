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
    old_mac: bool = False  # lines end with a carriage return; one that ends with a newline is a line, too

    def cut(self, data: bytes) -> int:
        """The length up to and with the last line end; 0: there is none."""
        if self.old_mac:
            return max(self._last(data, self.newline), self._last(data, self._carriage_return()))
        return self._last(data, self.newline)

    def cut_old_mac(self, data: bytes) -> int:
        """The length up to the last of several carriage returns that no newline follows, as if they ended lines."""
        sign = self._carriage_return()
        end = self._last(data[: -len(sign)], sign)
        return end if end and self._last(data[: end - len(sign)], sign) else 0

    def first_end(self, data: bytes) -> int:
        """The length up to and with the first line end; 0: there is none."""
        if not self.old_mac:
            return self._first(data, self.newline)
        found = [e for sign in (self.newline, self._carriage_return()) if (e := self._first(data, sign))]
        return min(found, default=0)

    @staticmethod
    def _last(data: bytes, sign: bytes) -> int:
        end = len(data)
        while (at := data.rfind(sign, 0, end)) >= 0:
            if at % len(sign) == 0:
                return at + len(sign)
            end = at + len(sign) - 1  # inside of two characters
        return 0

    @staticmethod
    def _first(data: bytes, sign: bytes) -> int:
        at = data.find(sign)
        while at >= 0 and at % len(sign):
            at = data.find(sign, at + 1)
        return at + len(sign) if at >= 0 else 0

    def _carriage_return(self) -> bytes:
        return self.newline.replace(b"\n", b"\r")

    def ended(self, start: bytes) -> Encoding | None:
        """The same with the line ends of a file that begins so (without its mark); None: it has no whole line yet.

        A carriage return at the very end may be half of a line end.
        """
        sign, newlines = self._carriage_return(), start.count(self.newline)
        alone = start[: -len(sign)].count(sign) - start.count(sign + self.newline)
        if alone > newlines:
            return self._replace(old_mac=True)
        return self if newlines else None

    def decode(self, data: bytes) -> str:
        """The text; what is not of this encoding becomes U+FFFD."""
        return data.decode(self.name, "replace")

    def lines(self, data: bytes) -> list[str]:
        """The lines of some bytes without their ends and byte order marks, empty ones too, the last one unless it is
        empty."""
        text = self.decode(data)
        if self.old_mac:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        found = text.split("\n")
        if not found[-1]:
            found.pop()
        if "\ufeff" in text:  # a writer began again
            found = [line.lstrip("\ufeff") for line in found]
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
