# SPDX-License-Identifier: Apache-2.0
"""The tables of events, of the windows that they withhold, of what people noted, and of what is shelved.

Every statement on them. No threads: the caller holds the lock of its connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ..durable import event_record
from ..types import ALERT, DRIFT, SEVERITIES, AlertState, Event
from .sample_table import NOT_ASKED
from .withholding import FAULT, FOREVER_NS, NORMAL, Hold, spans

MAX_NOTES = 10_000
MAX_EVENTS = 10_000  # stored; beyond, the oldest that are over go
_HOLD = "name, key, asset, start_ns, end_ns, verdict"
_WITHHELD = "asset = ? AND y IS NULL AND time_ns BETWEEN ? AND ?"


class Row(NamedTuple):
    """One event as a list shows it."""

    key: str
    asset: str
    opened_ns: int
    cleared_ns: int | None
    severity: str
    worst: float | None  # None: there is no score, as for a silent machine
    threshold: float | None
    provisional: bool
    sent: bool  # to the outputs; False: it was shelved
    acknowledged: float | None  # Unix time, s
    who: str
    verdict: str

    @property
    def waits(self) -> bool:
        """Whether somebody has to look at it."""
        return self.cleared_ns is None or self.acknowledged is None


class Note(NamedTuple):
    """What a person did or said about an event."""

    key: str
    at: float  # Unix time, s
    who: str
    action: str  # "ack", "accept", "comment", "shelve"
    text: str


class Shelf(NamedTuple):
    """A machine or an event that raises nothing for a while."""

    subject: str
    until: float  # Unix time, s, by the wall clock as it is now; what counts while an agent runs is `left_s`
    left_s: float  # of the agent's running time
    who: str
    text: str
    suppressed: int = 0  # events that were not sent to the outputs
    at: float = 0.0  # when it was shelved, Unix time, s


def put_event(db: sqlite3.Connection, event: Event, body: bytes, sent: bool) -> None:
    """Note an event, or its change."""
    decision = event.decision
    if event.state == "cleared":
        sql = "UPDATE events SET cleared_ns = ?, worst = ?, severity = ? WHERE key = ?"
        db.execute(sql, (event.since_ns or decision.time_ns, event.worst, event.severity, event.key))
        return
    sql = """INSERT INTO events (key, asset, opened_ns, severity, worst, threshold, provisional, body, sent, kind)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
        cleared_ns = NULL, severity = excluded.severity, worst = excluded.worst, body = excluded.body,
        sent = CASE WHEN excluded.sent THEN 1 WHEN sent = 0 THEN 0 ELSE 2 END"""
    values = (event.key, decision.asset, event.since_ns or decision.time_ns, event.severity, event.worst)
    db.execute(sql, (*values, decision.threshold, decision.provisional, body, sent, event.kind))
    old = "SELECT rowid FROM events WHERE cleared_ns IS NOT NULL ORDER BY rowid DESC LIMIT -1 OFFSET ?"
    db.execute(f"DELETE FROM events WHERE rowid IN ({old})", (MAX_EVENTS,))  # noqa: S608


def alert_times(db: sqlite3.Connection, asset: str, since_ns: int) -> list[tuple[int, int]]:
    """From when to when the asset's alerts were open, of those that lasted beyond `since_ns`."""
    sql = "SELECT opened_ns, coalesce(cleared_ns, ?) FROM events WHERE asset = ? AND kind = 'alert'"
    return [(a, b) for a, b in db.execute(sql, (FOREVER_NS, asset)) if b >= since_ns]


def end_others(db: sqlite3.Connection, asset: str, open_keys: Sequence[str], time_ns: int, kind: str = ALERT) -> None:
    """Note as over what a restart forgot: the asset's events of a kind but those that are open, if any are."""
    those = f"key NOT IN ({', '.join('?' * len(open_keys))})"
    sql = f"UPDATE events SET cleared_ns = ? WHERE asset = ? AND cleared_ns IS NULL AND kind = ? AND {those}"  # noqa: S608
    db.execute(sql, (time_ns, asset, kind, *open_keys))


def ensure_open(db: sqlite3.Connection, key: str, asset: str, state: AlertState) -> None:
    """Note an open event of which nothing is known here but its alert's state: it was raised by an older version."""
    sql = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, NULL, ?, ?, NULL, 0, x'', 1, NULL, '', 'alert')"
    db.execute(sql, (key, asset, state.opened_ns, SEVERITIES[state.severity], state.worst))


def ensure_drifts(db: sqlite3.Connection, asset: str, opened: Mapping[str, int], severity: str) -> None:
    """Note open drifts (key -> since when), if they were raised just before the agent was killed."""
    sql = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, NULL, ?, NULL, NULL, 0, x'', 1, NULL, '', ?)"
    db.executemany(sql, [(key, asset, since_ns, severity, DRIFT) for key, since_ns in opened.items()])


def put_holds(db: sqlite3.Connection, many: Sequence[Hold]) -> None:
    """Store holds; a verdict that was given meanwhile stays."""
    sql = f"""INSERT INTO withheld ({_HOLD}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
        key = excluded.key, end_ns = excluded.end_ns"""  # noqa: S608
    db.executemany(sql, many)


def holds(db: sqlite3.Connection) -> list[Hold]:
    """All holds, oldest first."""
    return [Hold(*row) for row in db.execute(f"SELECT {_HOLD} FROM withheld ORDER BY rowid")]  # noqa: S608


def events(db: sqlite3.Connection) -> list[Row]:
    """All events, newest first."""
    sql = """SELECT key, asset, opened_ns, cleared_ns, severity, worst, threshold, provisional, sent, acknowledged, who,
        coalesce((SELECT verdict FROM withheld w WHERE w.key = e.key ORDER BY rowid DESC LIMIT 1), '')
        FROM events e ORDER BY rowid DESC"""
    made = (Row._make(row) for row in db.execute(sql))
    return [row._replace(provisional=bool(row.provisional), sent=bool(row.sent)) for row in made]


def keys(db: sqlite3.Connection) -> set[str]:
    """The keys of all events."""
    return {key for (key,) in db.execute("SELECT key FROM events")}


def acknowledge(db: sqlite3.Connection, key: str, at: float, who: str, verdict: str) -> None:
    """Note who has seen the event, and decide on its windows; a fault changes nothing that was accepted before."""
    db.execute("UPDATE events SET acknowledged = ?, who = ? WHERE key = ?", (at, who, key))
    open_only = " AND verdict = ''" if verdict == FAULT else ""
    db.execute(f"UPDATE withheld SET verdict = ? WHERE key = ?{open_only}", (verdict, key))  # noqa: S608


def decide_span(db: sqlite3.Connection, asset: str, start_ns: int, end_ns: int, verdict: str) -> None:
    """Decide on holds of the asset that overlap the span and that nobody has decided on."""
    sql = "UPDATE withheld SET verdict = ? WHERE asset = ? AND verdict = '' AND start_ns <= ? AND end_ns >= ?"
    db.execute(sql, (verdict, asset, end_ns, start_ns))


def put_note(db: sqlite3.Connection, note: Note) -> None:
    """Store what a person did."""
    db.execute("INSERT INTO event_notes (key, at, who, action, text) VALUES (?, ?, ?, ?, ?)", note)


def notes(db: sqlite3.Connection) -> list[Note]:
    """All notes, oldest first."""
    return [Note(*row) for row in db.execute("SELECT key, at, who, action, text FROM event_notes ORDER BY id")]


def put_shelf(db: sqlite3.Connection, shelf: Shelf) -> None:
    """Shelve, or change what is shelved."""
    db.execute("INSERT OR REPLACE INTO shelves VALUES (?, ?, ?, ?, ?, ?, ?)", shelf)


def update_shelf(db: sqlite3.Connection, shelf: Shelf) -> None:
    """Store what is left of a shelf and what it suppressed, unless it was shelved again meanwhile."""
    sql = "UPDATE shelves SET left_s = ?, until = ?, suppressed = ? WHERE subject = ? AND at = ?"
    db.execute(sql, (shelf.left_s, shelf.until, shelf.suppressed, shelf.subject, shelf.at))


def end_shelf(db: sqlite3.Connection, subject: str, at: float | None = None) -> None:
    """Take from the shelf; with `at`, unless it was shelved again meanwhile."""
    db.execute("DELETE FROM shelves WHERE subject = ? AND (? IS NULL OR at = ?)", (subject, at, at))


def shelves(db: sqlite3.Connection) -> list[Shelf]:
    """Everything that is shelved."""
    return [Shelf(*row) for row in db.execute("SELECT * FROM shelves ORDER BY subject")]


def open_alert(db: sqlite3.Connection, asset: str) -> bytes | None:
    """The asset's alert that is open and was sent, as it was last raised; not one of which only the state is known."""
    sql = """SELECT body FROM events WHERE asset = ? AND cleared_ns IS NULL AND sent != 0 AND kind = 'alert'
        AND length(body) > 0 ORDER BY rowid DESC LIMIT 1"""
    found = db.execute(sql, (asset,)).fetchone()
    return None if found is None else bytes(found[0])


def unsent(db: sqlite3.Connection) -> list[tuple[str, str, bytes]]:
    """(key, asset, event) of open events of which the outputs lack the opening, or that the severity rose."""
    found = db.execute("SELECT key, asset, body, sent FROM events WHERE sent != 1 AND cleared_ns IS NULL").fetchall()
    return [(key, asset, body if sent else _as_opened(body)) for key, asset, body, sent in found]


def _as_opened(body: bytes) -> bytes:
    """The newest state of an event that the outputs do not know yet, as its opening."""
    return event_record.encode(msgspec.structs.replace(event_record.decode(body), state="opened"))


def mark_sent(db: sqlite3.Connection, key: str) -> None:
    """Note that the outputs get the event now."""
    db.execute("UPDATE events SET sent = 1 WHERE key = ?", (key,))


def withheld_by_event(db: sqlite3.Connection, samples: sqlite3.Connection | None = None) -> dict[str, int]:
    """How many stored windows each undecided event withholds; samples: where the windows are, if not there. A window
    that two events withhold counts for both, and for neither once it is accepted."""
    all_holds = holds(db)
    accepted = [hold for hold in all_holds if hold.verdict == NORMAL]
    by_key: dict[tuple[str, str], list[Hold]] = {}
    for hold in all_holds:
        if not hold.verdict:
            by_key.setdefault((hold.key, hold.asset), []).append(hold)
    found: dict[str, int] = {}
    for (key, asset), own in by_key.items():
        others = [hold for hold in accepted if hold.asset == asset]
        found[key] = found.get(key, 0) + _count(samples or db, asset, spans([*own, *others]))
    return found


def withheld_in_all(db: sqlite3.Connection) -> int:
    """How many stored windows undecided events withhold, each counted once."""
    by_asset: dict[str, list[Hold]] = {}
    for hold in holds(db):
        if hold.verdict != FAULT:
            by_asset.setdefault(hold.asset, []).append(hold)
    return sum(_count(db, asset, spans(own)) for asset, own in by_asset.items())


def trim_withheld(db: sqlite3.Connection, asset: str, asset_holds: Iterable[Hold], most: int) -> int:
    """Delete the oldest withheld windows of one asset beyond `most`: a lasting alarm must not displace what is normal.
    Returns how many. A window of several holds counts once: the stretches before events overlap."""
    times = spans(asset_holds)
    excess, dropped = _count(db, asset, times) - most, 0
    for start_ns, end_ns in times:
        if excess <= dropped:
            break
        first = f"SELECT id FROM samples WHERE {_WITHHELD} AND {NOT_ASKED} ORDER BY time_ns LIMIT ?"  # noqa: S608
        values = (asset, start_ns, end_ns, excess - dropped)
        dropped += db.execute(f"DELETE FROM samples WHERE id IN ({first})", values).rowcount  # noqa: S608
    return dropped


def _count(db: sqlite3.Connection, asset: str, times: Iterable[tuple[int, int]]) -> int:
    """How many stored windows without a label end in these spans."""
    sql = f"SELECT count(*) FROM samples WHERE {_WITHHELD}"  # noqa: S608
    return sum(int(db.execute(sql, (asset, *span)).fetchone()[0]) for span in times)


def forget_old(db: sqlite3.Connection) -> None:
    """Delete holds that are older than every stored window of their asset, and the oldest notes."""
    oldest = "SELECT min(time_ns) FROM samples s WHERE s.asset = withheld.asset"
    sql = f"DELETE FROM withheld WHERE end_ns < {FOREVER_NS} AND end_ns < ({oldest})"  # noqa: S608
    db.execute(sql)
    db.execute("DELETE FROM event_notes WHERE id <= (SELECT max(id) FROM event_notes) - ?", (MAX_NOTES,))
