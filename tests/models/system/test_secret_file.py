# SPDX-License-Identifier: Apache-2.0
"""A file that holds no usable secret is refused in words that show none of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_models.system.secret_file import MOST_SECRET_BYTES, read_secret, read_token

VALUE = "S3CRET-4711"
BROKEN: dict[str, tuple[bytes, str]] = {
    "two lines": (f"{VALUE}\nexpires 2027\n".encode(), "it has 2 lines; write the password or key alone"),
    "lines of an old Mac": (f"{VALUE}\rexpires\r".encode(), "it has 2 lines"),
    "a line separator": (f"{VALUE}\u2028x".encode(), "it has 2 lines"),
    "NUL": (f"{VALUE}\0\n".encode(), "control characters"),
    "escape": (f"\x1b[1m{VALUE}".encode(), "control characters"),
    "tab": (f"{VALUE}\t2027".encode(), "control characters"),
    "empty": (b"", "it is empty"),
    "byte order mark only": (b"\xef\xbb\xbf\r\n", "it is empty"),
    "UTF-16": (VALUE.encode("utf-16"), "its text is UTF-16; save it as UTF-8"),
    "Latin-1": (f"{VALUE}ü".encode("latin-1"), "its text is no UTF-8"),
    "a key in DER": (b"0\x82\x04\xa3" + VALUE.encode() + b"\xff\xfe", "its text is no UTF-8"),
    "huge": (VALUE.encode() * 10_000, "more than 65,535 bytes"),
}
NO_TOKENS = {
    "spaces": (f"{VALUE} 2027".encode(), "neither spaces nor letters beyond ASCII"),
    "umlaut": (f"{VALUE}ü".encode(), "neither spaces nor letters beyond ASCII"),
    "the whole header": (f"Bearer {VALUE}".encode(), 'it begins with "Bearer"'),
}


@pytest.mark.parametrize("name", [*BROKEN, *NO_TOKENS])
def test_what_is_no_secret_is_refused_without_its_text(tmp_path: Path, name: str) -> None:
    data, words = {**BROKEN, **NO_TOKENS}[name]
    (tmp_path / "key").write_bytes(data)
    for read in (read_token,) if name in NO_TOKENS else (read_secret, read_token):
        with pytest.raises(OSError, match=words) as caught:
            read(tmp_path / "key")
        assert "S3CRET" not in repr(caught.value) and caught.value.__suppress_context__ == (
            caught.value.__context__ is not None
        )


@pytest.mark.parametrize("data", [b"k3y", b"k3y\n", b"k3y\r\n", b"\xef\xbb\xbfk3y\r\n", b"\n k3y \n"])
def test_line_ends_and_a_byte_order_mark_belong_to_no_secret(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "key").write_bytes(data)
    assert read_secret(tmp_path / "key") == read_token(tmp_path / "key") == "k3y"


def test_a_password_may_have_letters_and_spaces_and_be_as_long_as_mqtt_allows(tmp_path: Path) -> None:
    for text in ("pass wört €", "x" * MOST_SECRET_BYTES):
        (tmp_path / "key").write_text(text)
        assert read_secret(tmp_path / "key") == text
