# SPDX-License-Identifier: Apache-2.0
"""Read a password, token or key from its file, and say what is wrong with the file without showing what it holds.

A secret is one line of UTF-8 text. Whatever else a file holds would fail later, in a library that quotes the value in
its exception: the log, `status` and `check` would then show the secret.
"""

from __future__ import annotations

import errno
import re
import unicodedata
from pathlib import Path

from .plain_file import read_plain

MOST_SECRET_BYTES = 65_535  # of a password, token or key; more does MQTT not carry (MQTT 5, 3.1.3.6)
LOCKED_KEY = (
    "the key has a passphrase, and nobody is there to type it; write it without one, with mode 0600: "
    "openssl pkey -in OLD.pem -out NEW.pem"
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TOKEN = re.compile(r"[!-~]+")  # what may stand after "Bearer " (RFC 6750, 2.1), and somewhat more


def read_secret(path: Path) -> str:
    """The text of a password, token or key, without a byte order mark and its line end.

    Raises OSError, whose `strerror` never holds any of the text, for what is no secret.
    """
    data = read_plain(path, MOST_SECRET_BYTES)
    try:
        text = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        found = "UTF-16" if data.startswith(_UTF_16) else "no UTF-8"
        raise _unusable(path, f"its text is {found}; save it as UTF-8") from None
    if flaw := _flaw(text):
        raise _unusable(path, flaw)
    return text


def read_token(path: Path) -> str:
    """A secret that goes into a header as it is. Raises OSError as `read_secret` does."""
    text = read_secret(path)
    if text.lower().startswith("bearer "):
        raise _unusable(path, 'it begins with "Bearer"; write the token alone')
    if not _TOKEN.fullmatch(text):
        raise _unusable(path, "a token has neither spaces nor letters beyond ASCII; write the token alone")
    return text


def _flaw(text: str) -> str:
    """What is wrong with a secret, in words without its value."""
    if not text:
        return "it is empty; write the password or key into it"
    if (lines := len(text.splitlines())) > 1:
        return f"it has {lines} lines; write the password or key alone, on one line"
    if any(unicodedata.category(character) == "Cc" for character in text):
        return "it holds control characters, such as NUL or TAB; write the password or key again, as plain text"
    return ""


def _unusable(path: Path, why: str) -> OSError:
    return OSError(errno.ENODATA, why, str(path))
