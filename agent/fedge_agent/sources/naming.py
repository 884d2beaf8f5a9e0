# SPDX-License-Identifier: Apache-2.0
"""Name tags for people: with the asset and channel that read them, a few at most, then a count. Pure.

A broken server has thousands of problems of one kind; a person reads one line of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_TAG = re.compile(r"\btag (.+?): ")
SHOWN = 5  # tags in a message, and messages about tags


class Names:
    """The tags of one source. `users`: tag -> "asset.channel" of each channel that reads it."""

    def __init__(self, users: Mapping[str, Sequence[str]]) -> None:
        self._users = users

    def about(self, tags: Sequence[str]) -> str:
        """Some tags with asset and channel, and how many more there are."""
        shown = ", ".join(self._name(tag) for tag in tags[:SHOWN])
        return shown + (f" and {len(tags) - SHOWN:,} more" if len(tags) > SHOWN else "")

    def grouped(self, problems: Mapping[str, str]) -> dict[str, str]:
        """Problems by subject, those of tags that say the same in one."""
        others = {subject: text for subject, text in problems.items() if subject not in self._users}
        groups: dict[str, list[str]] = {}
        for tag, text in problems.items():
            if tag in self._users:
                groups.setdefault(text.replace(f"tag {tag}: ", ""), []).append(tag)
        if not groups:
            return others
        few = list(groups.items())[: SHOWN if len(groups) > SHOWN + 1 else SHOWN + 1]
        rest = [tag for tags in list(groups.values())[len(few) :] for tag in tags]
        said = {tags[0]: f"{self.about(tags)}: {text}" for text, tags in few}
        return others | said | ({rest[0]: f"{self.about(rest)}: other problems of this kind"} if rest else {})

    def folded(self, problems: Sequence[str]) -> list[str]:
        """The same for problems whose text names the tag."""
        keyed = {}
        for text in problems:
            found = _TAG.search(text)
            keyed[found[1] if found and found[1] in self._users else text] = text
        return list(self.grouped(keyed).values())

    def _name(self, tag: str) -> str:
        users = self._users.get(tag, ())
        more = f" and {len(users) - 1} more" if len(users) > 1 else ""
        return f"{users[0]}{more} ({tag})" if users else tag
