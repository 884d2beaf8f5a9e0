# SPDX-License-Identifier: Apache-2.0
"""Web pages where an answer was expected: those of logins and proxies are told from others. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from fedge_models.errors import UnavailableError

from .login_words import LOGIN

_LOGIN = re.compile(
    r"""(?i)type=["']?password|<title>[^<]*(log ?[io]n|sign ?in|anmeld|connexion|acced|inloggen|iniciar)"""
    r"""|<form[^>]*(log.?[io]n|sign.?in|sso|saml|anmeld|session)|samlrequest"""
    r"""|(location|refresh)[^>]{0,60}(log.?[io]n|sign.?in|sso|saml)"""
)
_OUTAGE = re.compile(
    r"(?i)maintenance|wartung|mantenimiento|manutenzione|unavailable|not available|nicht (verf|erreichbar)"
    r"|temporar|try again|overload|proxy|gateway|firewall|blocked|captive|hotspot|offline|indispon"
    r"|(<title>|<h1>)[^<]{0,60}(error|\b5\d\d\b)"
)
_TITLE = re.compile(r"(?is)<title>\s*(.*?)\s*<")
_TAG = re.compile(r"\s*<[^>]*>\s*")


class PageError(UnavailableError):
    """A web page that says neither that something was done nor that it was not."""


def in_words(text: str) -> str:
    """A web page in a few words."""
    found = _TITLE.search(text[:5000])
    return f"web page {found[1][:100]!r}" if found else "a web page"


def refuse(where: str, text: str, wanted: bool, anything: bool, shown: Callable[[str], str]) -> None:
    """Raise UnavailableError for the page of a login or proxy, PageError for another one that nobody wants.

    wanted: a page that says that something was done will do; anything: and so will that of a proxy; shown: the
    text without secrets.
    """
    login = _LOGIN.search(text[:100_000]) is not None
    login = login or (not anything and LOGIN.search(_TAG.sub(" ", text[:20_000])[:2000]) is not None)
    said = f"{where} with a web page instead of JSON ({in_words(shown(text[:5000]))})"
    if login or (not anything and _OUTAGE.search(text[:5000])):
        raise UnavailableError(f"{said}; a proxy or login page answers", login)
    if not wanted:
        raise PageError(f"{said}; a proxy or login page answers, or url is not that of the interface")
