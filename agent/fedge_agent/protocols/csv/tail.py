# SPDX-License-Identifier: Apache-2.0
"""Read the complete lines that are appended to a file, through rotation, truncation and restarts.

A last line without its end is waited for. A file that was replaced (rotated) is read to its end, wherever in the folder
it was moved to; then those that were rotated away since then; then the new one. A file that was truncated or rewritten
in place is read from its beginning, but for rows with a date that were read before. Inode, size and the last bytes
before the position tell these apart: an inode alone is soon used again. A copy that took its place, and has the same
rows with their times up to the position or elsewhere, is read on. `save` stores the position.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path

import msgspec
from fedge_models.errors import DataError
from fedge_models.system import files
from fedge_models.system.structs import known

from . import foreign, records
from .cells import delimiter_of
from .encoding import Encoding, find
from .faults import Faults
from .form import TableForm
from .lines import CHUNK, MAX_LINE, count_undecodable, note_comment
from .opened import Opened, open_file
from .recent import DATED_BYTES, Recent
from .rotated import Rotation, lost_between, time_of

MARK = 256
SKIPPED = "rows (skipped)"
MANY = 20  # lines that were left out before the first row
MOVED = 400  # files of the folder that are compared, the newest first
MOVED_PACKED = 2  # of those that were compressed, which take longer: where rows have times, the likely ones


@known
class Position(msgspec.Struct):
    """How far a file was read."""

    inode: int = 0
    offset: int = 0
    mark: bytes = b""  # the bytes right before the offset
    header: str | None = None  # the line of the columns' names, without its end
    name: str = ""  # of a file among those that a pattern finds
    columns: str | None = None  # a later line of names within the file
    check: int = 0  # CRC-32 of the others as they are encoded; 0: an earlier version wrote it
    last_ns: int | None = None  # time of the last row of the file before, while none of this one was read

    def encode(self) -> bytes:
        """Encode, with the check."""
        return msgspec.json.encode(msgspec.structs.replace(self, check=self._crc()))

    def is_whole(self) -> bool:
        """Whether it is what was encoded."""
        return self.check in (0, self._crc())

    def _crc(self) -> int:
        fields = {**msgspec.to_builtins(self), "check": 0}
        if self.last_ns is None:  # as an earlier version wrote it
            del fields["last_ns"]
        return zlib.crc32(msgspec.json.encode(fields)) or 1


class Tail:
    """One file. `header_changed`: the header of a new or rewritten file, if it is another one; else None."""

    def __init__(
        self,
        path: Path,
        position: Path,
        from_end: bool,
        form: TableForm,
        faults: Faults,
        at: Position | None = None,
    ) -> None:
        """`position`: file of the stored position; at: the position itself. `from_end`: begin a file never read
        before at its end."""
        self._path, self._position, self._form, self._faults = path, position, form, faults
        self._file: Opened | None = None
        self._encoding: Encoding | None = None  # of the open file
        self._skipping = False  # the rest of a line that is too long
        self.at, self._saved = load(position) if at is None else at, b""
        self._from_end = from_end and self.at.header is None
        self.header_changed: str | None = None
        self._alone = at is None  # no pattern names the other files
        self._recent = Recent(bool(form.time_column), faults)
        self._rotation = Rotation(path, bool(form.time_column), self._begins)
        self._resume = b""  # the bytes behind which this file may go on
        self._stat: tuple[int, int] | None = None  # size and time of the last change, at the last look
        self._ended = False  # the file was read to its end, and another one is to take its place
        self.lost = ""  # words about rows that were never seen; whoever takes them withdraws them
        self.fresh = False  # the next row is the first one of the file; whoever takes it withdraws it

    def lines(self, complete: bool = False) -> list[str]:
        """The next lines, up to a chunk; [] when there are none yet. complete: nobody writes to this file any more.

        Raises OSError when the file cannot be read, DataError when its header is too long, or not of its encoding.
        """
        if self._file is None:
            self._open()
        assert self._file is not None
        replaced = self._replaced()
        if not replaced and self._rewritten():
            self._written_anew()
            replaced = self._replaced()
        if self.at.offset == 0 and not self._read_header(replaced or complete):
            return self._next_file() if replaced else []
        if self.header_changed is not None:
            return []
        before, self._stat = self._stat, (self._file.size(), self._file.changed_ns())
        if self._take_between(replaced or complete):
            return []
        found = self._chunk(last=replaced or complete)
        if found:
            self.at.last_ns = None
        if not found and replaced:
            return self._next_file()
        if not found and self._is_overwritten(before):
            self._begin(resume=False)
            return self.lines(complete)
        return found

    def position(self) -> bytes:
        """How far was read."""
        return self.at.encode()

    def save(self) -> None:
        """Store the position if it changed; durable on return. Raises StorageError."""
        now = self.position()
        if now != self._saved and self.at.header is not None:
            files.write_with_folder(self._position, now)
            self._saved = now

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = self._encoding = None

    def accept_header(self) -> None:
        """Read on in the file that begins with another first line."""
        self.at.header = self.header_changed = None

    def _open(self, last: bool = False) -> None:
        """Open the file, or one that was moved away before it was read to its end. `last`: there is none."""
        self._file = open_file(self._path)
        same = not self._rewritten()
        if same and self._inode() == self.at.inode:
            return
        if same and self._is_copy():
            self._encoding, self.at.inode = None, self._inode()
            return
        moved = None if last or not self.at.offset else self._moved()
        self._take(moved, gone=self.at.offset > 0 and not self._ended)

    def _take(self, moved: Opened | None, gone: bool = False) -> None:
        """Go on in a file that was moved, or begin with the one that is there. gone: that which was read is not."""
        assert self._file is not None
        if moved is not None:
            self._file.close()
            self._file = moved
        self._encoding = None
        self.at.inode = self._inode()
        if moved is None:
            before = self.at.mark if gone and self.at.header is not None else b""
            self._begin()
            self._note_gone(before)

    def _written_anew(self) -> None:
        """The file was truncated or written anew in place: of a copy that was made before, the rest is read first."""
        self._take(self._moved() if self._alone and self._is_copy() else None)

    def _note_gone(self, mark: bytes) -> None:
        """Say that rows may be missing when nothing goes on where reading had stopped."""
        if not mark or self._find_resumed():
            return
        last, first = self._time_in(mark), self._begins(self._path)
        if first is not None and last is not None and first < last:
            return  # written anew with old rows
        self.lost = lost_between(last, first, "the file that was read is gone")

    def _time_in(self, mark: bytes) -> int | None:
        """The time of the last row in some bytes."""
        lines = mark.decode(self.encoding.name, "replace").split("\n")
        return time_of(lines[::-1], self.at.header, self._form)

    def _take_between(self, last: bool) -> bool:
        """Go on in a file that was copied away and cut between the header and the first row: behind the header, the
        bytes before the position are those of any of these files."""
        assert self._file is not None
        if self.at.last_ns is None or not self._alone:
            return False
        first = time_of(self.encoding.lines(self._complete(last)), self.at.header, self._form)
        if (
            first is None
            or first <= self.at.last_ns
            or (between := self._rotation.between(self.at.last_ns, first)) is None
        ):
            return False
        self.close()
        self._file, self.at.inode = between, between.inode()
        self._begin(resume=False)
        return True

    def _is_copy(self) -> bool:
        """Whether another file with the same bytes before the position is a copy of the one that was read, with more
        rows. Rows without a date may be alike and yet new."""
        return bool(self._form.time_column and DATED_BYTES.search(self.at.mark))

    def _moved(self) -> Opened | None:
        """The file of the folder whose bytes before the position are those that were read, or None."""
        others = [p for p in self._path.parent.iterdir() if p != self._path and p.name.startswith(self._path.stem)]
        with suppress(OSError):
            others.sort(key=lambda p: -p.stat().st_mtime_ns)
        plain = [p for p in others if p.suffix != ".gz"][:MOVED]
        for path in plain + self._likely([p for p in others if p.suffix == ".gz"][:MOVED]):
            with suppress(OSError, DataError):
                file = open_file(path)
                if self._same(file):
                    return file
                file.close()
        return None

    def _likely(self, packed: list[Path]) -> list[Path]:
        """The compressed files that may be the one that was read: that begin last before the last row."""
        last_ns = self._time_in(self.at.mark) if self._form.time_column and packed else None
        if last_ns is None:
            return packed[:MOVED_PACKED]
        begun = [(at, p) for p in packed if (at := self._begins(p)) is not None and at <= last_ns]
        return [p for _, p in sorted(begun, key=lambda b: -b[0])[:MOVED_PACKED]]

    def _inode(self) -> int:
        assert self._file is not None
        return self._file.inode()

    def _next_file(self) -> list[str]:
        """Switch to the file that came behind the one that was read to its end: one that was rotated away, too, or that
        which took its name."""
        assert self._file is not None
        between, lost = self._rotation.next(self._file, self._last_time()) if self._alone else (None, "")
        self.lost, self._ended = lost or self.lost, True
        self.close()
        if between is not None:
            self._file, self.at.inode = between, between.inode()
            self._begin(resume=False)
            return []
        self._rotation.end()
        with suppress(FileNotFoundError):  # between the two there may be none
            self._open(last=True)
        return []

    def _begins(self, path: Path) -> int | None:
        """The time of a file's first row, if it has the header of this one."""
        other = Tail(path, self._position, False, self._form, Faults(), Position())
        try:
            lines = other.lines(complete=True)
            return time_of(lines, other.at.header, self._form) if other.at.header == self.at.header else None
        except DataError as e:
            self._faults.note("files that cannot be read", f"{path.name}: {e}")
        except OSError:
            pass
        finally:
            other.close()
        return None

    def _last_time(self) -> int | None:
        """The time of the last row before the position."""
        assert self._file is not None
        begin = max(0, self.at.offset - CHUNK // 4)
        lines = self.encoding.lines(self._file.pread(self.at.offset - begin, begin))
        return time_of(reversed(lines), self.at.header, self._form)

    def _begin(self, resume: bool = True) -> None:
        """Begin with a file. resume: it may have the rows that were read, and others behind them."""
        self._resume = self.at.mark if resume and self._is_copy() else b""
        if self._form.time_column and self.at.mark:
            self.at.last_ns = self._time_in(self.at.mark) or self.at.last_ns
        self._recent.begin()
        self.at.offset, self.at.mark, self._skipping, self._encoding = 0, b"", False, None
        self.at.columns, self._stat, self._ended = None, None, False

    def _find_resumed(self) -> int:
        """The place behind the bytes that stood before the position; 0: they are not in this file."""
        assert self._file is not None
        mark, at = self._resume, 0
        while mark and (data := self._file.pread(CHUNK, at)):
            if (place := data.rfind(mark)) >= 0:
                return at + place + len(mark)
            if len(data) < CHUNK:
                break
            at += CHUNK - len(mark)
        return 0

    def _is_overwritten(self, before: tuple[int, int] | None) -> bool:
        """Whether a file of few rows was changed in other places than at its end, as files of a fixed length are."""
        if before is None or self._stat is None:
            return False
        is_inside = before[0] == self._stat[0] == self.at.offset and before[1] != self._stat[1]
        return is_inside and self._recent.is_whole()

    @property
    def encoding(self) -> Encoding:
        """The encoding of the open file, known once it has a whole line. Raises DataError for a file that is no text
        table, or whose byte order mark is not of the configured one."""
        assert self._file is not None
        if self._encoding is not None:
            return self._encoding
        start = self._file.pread(CHUNK, 0)
        found = find(self._form.encoding, start)
        foreign.refuse(start, self._form.encoding)
        self._encoding = found.ended(start[found.mark :])
        return self._encoding or found

    def _replaced(self) -> bool:
        assert self._file is not None
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return True
        return stat.st_ino != self._inode()

    def _rewritten(self) -> bool:
        assert self._file is not None
        return not self._same(self._file)

    def _same(self, file: Opened) -> bool:
        size = len(self.at.mark)
        return file.pread(size, self.at.offset - size) == self.at.mark

    def _read_header(self, last: bool) -> bool:
        """Whether the header is complete; the position is then behind it, or at the end of the file."""
        found = self._find_header(last)
        if found is None:
            self.header_changed = None
            return False
        text, end = found
        self.header_changed = text if self.at.header not in (None, text) else None
        if self.header_changed is not None:
            return True
        self.at.header = text
        self._move(end)
        self.fresh = not self._from_end
        if self._from_end:
            self._move(self._last_line_end())
        self._from_end = False
        if place := self._find_resumed():
            self._move(max(place, end))
        self._resume = b""
        return True

    def _find_header(self, last: bool) -> tuple[str, int] | None:
        """The header and the offset of the first row; None: it is not whole yet. last: nothing more is written."""
        assert self._file is not None
        form, encoding, at, number, header = self._form, self.encoding, self.encoding.mark, 0, None
        if form.columns:
            header = form.delimiter.join(form.columns)
        start, held = self._file.pread(MAX_LINE + encoding.mark, 0), list[str]()
        behind = form.skip_rows  # lines before it are left out
        while header is None or number < behind:
            end = encoding.first_end(start[at:]) or (len(start) - at if last else 0)
            if not end:
                if len(start) - encoding.mark >= MAX_LINE:
                    what = "its first line has more than" if number == 0 else "there is no header in the first"
                    raise DataError(f"{what} {MAX_LINE} bytes; expected the names of the columns")
                self._say_skipped(number, form.skip_rows if header is None else behind)
                return None
            line = "".join(encoding.lines(start[at : at + end]))
            at, number = at + end, number + 1
            skipped = number <= form.skip_rows or not line.strip() or (form.comment and line.startswith(form.comment))
            if header is None and (held or not skipped):
                held.append(line)
                if records.is_header(held, delimiter_of(form, held[0])):
                    header, behind = "\n".join(held), number + form.skip_after
        self._faults.state(SKIPPED, None)
        return header, at

    def _say_skipped(self, number: int, behind: int) -> None:
        """State a problem while many lines have come, all of which are to be left out."""
        keys = f"skip_rows = {self._form.skip_rows}, skip_after = {self._form.skip_after}"
        text = f"{self._path}: all {number} lines so far are left out, and as far as line {behind} ({keys})"
        self._faults.state(SKIPPED, text if number >= MANY and behind > number else None)

    def _last_line_end(self) -> int:
        assert self._file is not None
        end = self._file.size()
        end -= (end - self.at.offset) % len(self.encoding.newline)
        while end > self.at.offset:
            start = max(self.at.offset, end - CHUNK)
            if at := self.encoding.cut(self._file.pread(end - start, start)):
                return start + at
            end = start
        return self.at.offset

    def _chunk(self, last: bool) -> list[str]:
        """Lines of the next chunk that has any; [] at the end."""
        while whole := self._complete(last):
            self._move(self.at.offset + len(whole))
            if self._skipping:  # this chunk continues a line that is too long
                end = self.encoding.first_end(whole)
                self._skipping, whole = not end, whole[end:] if end else b""
            found = self.encoding.lines(whole)
            count_undecodable(self.encoding, whole, found, self._faults)
            comment = self._form.comment
            if comment:
                found = self._uncommented(found, comment)
            found = [line for line in found if line.strip()]
            if found := self._recent.new(found):
                return found
        return []

    def _uncommented(self, lines: list[str], comment: str) -> list[str]:
        """The lines that are no comments; the others are counted."""
        for line in lines:
            if line.startswith(comment):
                note_comment(line, self._faults)
        return [line for line in lines if not line.startswith(comment)]

    def _complete(self, last: bool) -> bytes:
        """The bytes up to the last line end of a chunk; all bytes if they are the `last` of the file."""
        assert self._file is not None
        data = self._file.pread(CHUNK, self.at.offset)
        if whole := self.encoding.cut(data):
            return data[:whole]
        if whole := self.encoding.cut_old_mac(data):  # the writer ends lines in another way than before
            self._encoding = self.encoding._replace(old_mac=True)
            self._faults.note("changes of the line ends to carriage returns", self._path.name)
            return data[:whole]
        if len(data) == CHUNK:
            return self._long_line(data, last)
        return data if last else b""

    def _long_line(self, data: bytes, last: bool) -> bytes:
        """A line longer than a chunk: read up to `MAX_LINE`, else skipped chunk by chunk."""
        assert self._file is not None
        if not self._skipping:
            line = self._file.pread(MAX_LINE, self.at.offset)
            if end := self.encoding.first_end(line):
                return line[:end]
            if len(line) < MAX_LINE:
                return line if last else b""
            self._skipping = True
            self._faults.note(f"lines of more than {MAX_LINE} bytes", repr(self.encoding.decode(data[:60])))
        return data

    def _move(self, offset: int) -> None:
        assert self._file is not None
        size = min(MARK, offset)
        self.at.offset, self.at.mark = offset, self._file.pread(size, offset - size)


def load(path: Path) -> Position:
    """Load a stored position; a new one if there is none or it cannot be read."""
    try:
        return parse_position(path.read_bytes()) or Position()
    except OSError:
        return Position()


def parse_position(data: bytes) -> Position | None:
    """A position as `Tail.position` gives it; None if it is damaged."""
    try:
        found = msgspec.json.decode(data, type=Position)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found if found.header is not None and found.is_whole() else None
