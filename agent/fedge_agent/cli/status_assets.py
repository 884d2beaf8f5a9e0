# SPDX-License-Identifier: Apache-2.0
"""The machines' lines of `fedge-agent status`: those with a problem first, then alarms, then the others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import msgspec
from fedge_models.system import times
from fedge_models.system.text import counted

from ..machines import run_limit
from ..machines.condition import Condition, State
from ..machines.condition_words import duration, likeness, merged, names, words
from ..types import SEVERITIES
from . import drift_lines

Entries = dict[str, dict[str, Any]]
Said = tuple[str, tuple[str, ...]]  # the line without its problems, and the problems

UNUSED = {  # kind of an asset's counter -> in words
    "bad": "bad",
    "out_of_range": "out of range",
    "not_finite": "no number",
    "not_pictures": "no picture",
    "late": "late",
    "before_model": "before there was a model",
    "history_unused": "of a history, for pictures",
}
UNDECIDED = {  # kind of an asset's count -> in words
    "windows_undefined": "window for which a formula gives no number",
    "windows_undecided": "window undecided",
    "windows_waiting": "window waiting to be decided",
    "unjudged": "decision without a limit, such as each during a baseline",
    "alarms_held": "alarm without an event of its own, within min_gap of the last",
    "windows_thinned": "window not stored, as others cover the time",
    "samples_repeated": "window read again, whose sample is stored",
    "samples_crowded": "sample lost, as this machine gives too many",
}
NO_MORE = "no more runs adapt: accept a run, or wait until the limit knows three"
ALONE = 5  # up to so many machines that decide get a line each


def lines(assets: Mapping[str, dict[str, Any]]) -> list[Said]:
    """A line for each machine; for many alike, one."""
    conditions = {name: msgspec.convert(entry["condition"], Condition) for name, entry in assets.items()}
    bad = [n for n, c in conditions.items() if c.problem]
    others = [n for n, c in conditions.items() if not c.problem and c.state is not State.DECIDING]
    fine = [n for n, c in conditions.items() if not c.problem and c.state is State.DECIDING]
    alarmed = [n for n in fine if assets[n]["alert"]["opened"]]
    quiet = [n for n in fine if not assets[n]["alert"]["opened"]]
    made = [_of_condition(those, conditions, assets) for those in _alike(bad, lambda n: likeness(conditions[n]))]
    made += [(f"asset {n}: {_decision(assets[n])}", _unlike(n, assets[n])) for n in alarmed[:ALONE]]
    made += drift_lines.problems(assets)
    made += [_together(alarmed[ALONE:], assets)] if alarmed[ALONE:] else []
    made += [_of_condition(those, conditions, assets) for those in _alike(others, lambda n: likeness(conditions[n]))]
    if len(quiet) <= ALONE:
        return [*made, *((f"asset {n}: {_decision(assets[n])}", _unlike(n, assets[n])) for n in quiet)]
    return [*made, *(_together(those, assets) for those in _alike(quiet, lambda n: assets[n]["last"]["label"]))]


def _alike(those: list[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    """The names in groups of equal keys."""
    groups: dict[Hashable, list[str]] = {}
    for name in those:
        groups.setdefault(key(name), []).append(name)
    return list(groups.values())


def _of_condition(those: list[str], conditions: Mapping[str, Condition], assets: Mapping[str, dict[str, Any]]) -> Said:
    """What machines of one likeness cannot say, and why."""
    one = merged([conditions[n] for n in those])
    heading = f"asset {those[0]}" if len(those) == 1 else f"{len(those)} assets ({names(those)})"
    entries = [assets[n] for n in those]
    said = words(one) + _open(*entries) + _unused(*entries) + _breaks(*entries) + _undecided(*entries)
    if one.problem:
        return "", (f"{heading}: {one.state.value.upper()} {said}",)
    return f"{heading}: {said}", ()


def _open(*entries: dict[str, Any]) -> str:
    """State that an event is open, and its highest severity; empty if none is open. A restart ends no event."""
    severities = [e["alert"]["severity"] for e in entries if e["alert"]["opened"]]
    if not severities:
        return ""
    many = f"{len(severities)} events" if len(severities) > 1 else "event"
    return f"; {many} open, severity {SEVERITIES[max(severities)]}"


def _decision(entry: dict[str, Any]) -> str:
    """The newest decision of a machine, and its events."""
    last, condition = entry["last"], entry["condition"]
    left = f", {last['hours_left_at_least']:.3g} h left at least" if last["hours_left"] is not None else ""
    alert = f"; event open, severity {_severity(entry)}" if entry["alert"]["opened"] else ""
    alert += _held(entry.get("held_until_ns"))
    gaps = f"; {100 * condition['gaps']:.0f} % of the last windows have gaps" if condition["gaps"] else ""
    limit = f"of {last['threshold']:.4g}" if last["threshold"] is not None else "without a limit"
    limit += " (provisional)" if last.get("provisional") else ""
    limit += f"; {moved}" if (moved := (entry.get("limit") or {}).get("text")) else ""
    limit += _adapted(entry.get("run"))
    inputs = drift_lines.of_inputs(entry["inputs"])
    events = f"{_events(entry['events'])}{_unused(entry)}{_breaks(entry)}{_undecided(entry)}{inputs}"
    return f"{last['label']}, score {last['score']:.4g} {limit}{left}{alert}{gaps}; {events}"


def _held(until_ns: int | None) -> str:
    """State that an alarm lasts but makes no event of its own yet; empty if there is no such alarm."""
    if until_ns is None:
        return ""
    return (
        f"; in alarm, but without an event of its own until {times.shown(until_ns)} (min_gap): it makes one if it gets "
        "more severe than the last event, or lasts more than twice as long"
    )


def _events(count: int) -> str:
    return f"{counted(count, 'event')} since the start"


def _adapted(limit: dict[str, Any] | None) -> str:
    """By what the limit in use differs from the one that was released; empty where it does not."""
    if limit is None or not limit["is_new"] or limit["factor"] == 1:
        return f" ({NO_MORE})" if limit is not None and limit["used_up"] else ""
    seen = f"{limit['windows']:.0f} windows of this run seen"
    seen += f", {limit['needed']:.0f} needed" if limit["windows"] < limit["needed"] else ""
    return f" ({limit['released']:.4g} as released, times {limit['factor']:.2g}: {seen}, at most {limit['bound']:.3g})"


def _unlike(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """The problem of a run that is not like those that the limit was made from; nothing where it is."""
    limit, inputs = entry.get("run"), entry["inputs"]
    accept = f"; if this is the new normal: fedge-agent event accept {key}" if (key := inputs["unlike_key"]) else ""
    if limit is None or limit["unlike"] is None:
        return (f"asset {name}: {inputs['unlike_reason']}{accept}",) if accept else ()
    by = f"{limit['unlike']:.3g} times" if limit["unlike"] < run_limit.FAR else f"more than {limit['bound']:.3g} times"
    text = (
        f"asset {name}: this run is not like those that its limit was made from: its first scores are {by} theirs, and "
        f"the limit is raised by no more than {limit['bound']:.3g} times (limit_bound, over what it was raised by when "
        "it was made); look for a fault, or another product"
    )
    return (text + accept,)


def _unused(*entries: dict[str, Any]) -> str:
    """How many readings could not be used, by what was wrong with them; empty when all could."""
    said = []
    for kind, words_ in UNUSED.items():
        count = sum(e["counters"].get(kind, 0) for e in entries)
        where = names(c for e in entries for c in e["out_of_range"]) if kind == "out_of_range" else ""
        said += [f"{count} {words_}{f' ({where})' if where else ''}"] if count else []
    return (f"; readings not used: {', '.join(said)}" if said else "") + _implausible(*entries)


def _implausible(*entries: dict[str, Any]) -> str:
    """How many times fitted none of those around them, the channels, and an example; empty when all did."""
    count = sum(e["counters"].get("times_implausible", 0) for e in entries)
    found = {name: last for e in entries for name, (_, *last) in e.get("implausible_times", {}).items()}
    if not count or not found:
        return f"; {count} times implausible" if count else ""
    last, by = next(reversed(found.values()))
    seconds = abs(by) / 1e9  # since then the others went on for some: to a minute it is right
    seconds = 60 * round(seconds / 60) if seconds > 600 else seconds
    off = f"{duration(seconds)} {'ahead of' if by > 0 else 'behind'} the others"
    return f"; {count} times implausible ({names(found)}, the last {times.shown(last)} UTC, {off})"


def _undecided(*entries: dict[str, Any]) -> str:
    """How many windows were not decided on, or could not alarm, or are not stored to learn from; empty when none."""
    counts = {what: sum(e.get(kind, 0) for e in entries) for kind, what in UNDECIDED.items()}
    said = [counted(count, what) for what, count in counts.items() if count]
    return f"; {', '.join(said)}" if said else ""


def _breaks(*entries: dict[str, Any]) -> str:
    """Where windows could not continue, and how many are of a history; empty when there is nothing of this."""
    gaps, jumps = (sum(e["counters"].get(kind, 0) for e in entries) for kind in ("gaps", "clock_jumps"))
    said = [counted(gaps, "gap longer than a window")] if gaps else []
    said += [f"the clock was set {counted(jumps, 'time')}"] if jumps else []
    history = sum(e["counters"].get("history", 0) for e in entries)
    said += [counted(history, "window of what was sent afterwards")] if history else []
    return f"; {', '.join(said)}" if said else ""


def _severity(entry: dict[str, Any]) -> str:
    return SEVERITIES[entry["alert"]["severity"]]


def _together(those: list[str], assets: Mapping[str, dict[str, Any]]) -> Said:
    """Many machines that decide alike."""
    labels = names({assets[n]["last"]["label"]: None for n in those})
    events = sum(assets[n]["events"] for n in those)
    worst = max(assets[n]["condition"]["gaps"] for n in those)
    gaps = f"; up to {100 * worst:.0f} % of the last windows have gaps" if worst else ""
    alert = "; events open" if assets[those[0]]["alert"]["opened"] else ""
    entries = [assets[n] for n in those]
    unused = _unused(*entries) + _breaks(*entries) + _undecided(*entries)
    unlike = tuple(problem for n in those for problem in _unlike(n, assets[n]))
    fixed = [n for n in those if (limit := assets[n].get("run")) is not None and limit["used_up"]]
    unused += f"; limits of {names(fixed)}: {NO_MORE}" if fixed else ""
    return (
        f"{len(those)} assets ({names(those)}): {labels}{alert}{gaps}; {_events(events)}{unused}",
        unlike,
    )
