# SPDX-License-Identifier: Apache-2.0
"""The status page in lines of text: the machines first, then what serves them. Pure.

A line that a person has to act on holds the word PROBLEM. Many alike are one line: at most five names, then a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedge_models.system.text import counted, printable

from ..machines.condition_words import duration, names
from . import event_lines, how_sure, question_lines, status_assets, storage_lines

KINDS = ("sources", "models", "outputs")
MOST = 5  # problems of one thing in a line
STARTS = {  # what becomes of tensors that stay at the site
    "offered": ", offers its own tensors as the start of new sites",
    "private": ", offers none of its own tensors as the start of new sites, as privacy is set",
    "not allowed": (
        "; the model asks sites for a start value of its local tensors (what new sites begin with); this gateway does "
        "not offer its own: offer_start is false"
    ),
    "untrained": ", has offered none of its own tensors as the start of new sites since the agent was started",
    "incomplete": ", offers none of its own tensors as the start of new sites, as it has not met every class",
}


class Line(NamedTuple):
    """A line, and what is wrong in the operator's words."""

    text: str
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The line with at most five problems, then a count."""
        more = f"; and {len(self.problems) - MOST} more" if len(self.problems) > MOST else ""
        shown = f"PROBLEM {'; '.join(self.problems[:MOST])}{more}" if self.problems else ""
        return "; ".join(part for part in (self.text, shown) if part)


def lines(table: Mapping[str, Any], config_path: Path) -> list[Line]:
    """The status in lines."""
    latency = table["latency"]
    made = [Line(text, problems) for text, problems in status_assets.lines(table["assets"])]
    if not made:
        made = [Line(f"no assets: add [asset.NAME] to {config_path}")]
    made += [
        Line(f"{table['name']}: up {table['uptime_s']:.0f} s, aggregator {_aggregator(table)}"),
        Line(f"decisions {latency['decisions']}, p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms"),
    ]
    describe: dict[str, Callable[[dict[str, Any]], Line]] = {"sources": _source, "models": _model, "outputs": _output}
    for kind in KINDS:
        described = {name: describe[kind](entry) for name, entry in table[kind].items()}
        made += [Line(f"{kind[:-1]} {name}: {line.text}", line.problems) for name, line in described.items()]
        made += _unlike(table[kind]) if kind == "models" else []
        if not table[kind]:
            made.append(Line(f"no {kind}: add [{kind[:-1]}.NAME] to {config_path}"))
    made += [Line(text) for text in event_lines.of_status(table["event_book"])]
    made += [Line(text) for text in question_lines.of_status(table["questions"])]
    return [*made, *_tag_labels(table["assets"]), *_labels(table["labels"]), *_whole(table)]


def _aggregator(table: Mapping[str, Any]) -> str:
    """The aggregator's address, or why there is none."""
    more = " (to learn with other sites: fedge-agent join INVITATION)" if table["aggregator"] == "not joined" else ""
    return f"{table['aggregator']}{more}"


def _unlike(models: Mapping[str, Any]) -> Iterable[Line]:
    """Lines of the channels that are unlike those of other sites."""
    found = [line for entry in models.values() for line in entry["statistics"]["lines"]]
    yield from (Line(f"unlike other sites: {line}") for line in found[:MOST])
    if len(found) > MOST:
        yield Line(f"unlike other sites: {len(found) - MOST} more channels; see fedge-agent compare")


def _tag_labels(assets: Mapping[str, Any]) -> Iterable[Line]:
    """Lines of the assets whose label tag says what their model does not know."""
    for name, entry in assets.items():
        found = entry["tag_labels"]
        if found["problem"]:
            yield Line("", (f"label tag of {name}: {found['problem']}",))
        elif found["unknown"]:
            yield Line(f"label tag of {name}: {found['unknown']} labels unknown, the last {found['example']}")


def labels(entry: Mapping[str, Any]) -> Line:
    """An asset's labels in a line; empty when there are none and nothing is wrong."""
    counts = {k: v for k, v in entry.items() if k not in ("examples", "problem") and v}
    examples = "".join(f"; last {kind}: {text}" for kind, text in entry["examples"].items() if counts.get(kind))
    text = f"{', '.join(f'{v} {k}' for k, v in counts.items())}{examples}".removeprefix("; ")
    return Line(text, (entry["problem"],) if entry["problem"] else ())


def _labels(table: Mapping[str, Any]) -> Iterable[Line]:
    """Lines of the assets' labels, one for all whose labels are alike."""
    alike: dict[Line, list[str]] = {}
    for name, entry in table.items():
        if any(line := labels(entry)):
            alike.setdefault(line, []).append(name)
    return [Line(f"labels of {names(those)}: {line.text}", line.problems) for line, those in alike.items()]


def _whole(table: Mapping[str, Any]) -> Iterable[Line]:
    """What is wrong with the agent as a whole."""
    unwritten, inbox = table["unwritten_events"], table["inbox"]
    if unwritten["problem"]:
        yield Line("", (f"{counted(unwritten['waiting'], 'event')} waiting: {unwritten['problem']}",))
    if inbox["problem"]:
        yield Line("", (f"a restart would decide again: {inbox['problem']}",))
    if inbox["unreadable"]:
        yield Line(f"inbox: {inbox['unreadable']} stored batches were changed by a bad disk, and are left out")
    if inbox["set_aside"]:
        where = f"{inbox['set_aside']} stored batches ended the agent twice, and are in {inbox['aside']}"
        yield Line("", (f"{where}; move them away when you are done",))
    yield from (
        Line("", (problem,)) for problem in [*table["unknown_labels"], *storage_lines.problems(table["storage"])]
    )
    if any(table["lost"].values()):
        yield Line(f"LOST: {', '.join(f'{n} {k}' for k, n in table['lost'].items() if n)}")


def _source(entry: dict[str, Any]) -> Line:
    examples = {what: f" (last: {text})" for what, text in entry["examples"].items()}
    counts = "".join(f", {n} {what}{examples.get(what, '')}" for what, n in entry["counts"].items())
    age = "none yet" if entry["age_s"] is None else f"the newest came {entry['age_s']} s ago"
    held = f"; read no further: {entry['held']}" if entry["held"] else ""
    notes = "".join(f"; {k}: {v}" for k, v in entry["notes"].items())
    text = f"{entry['readings']} readings, {age}{counts}{held}{notes}"
    return Line(text, tuple(f"{k}: {v}" for k, v in entry["problems"].items()))


def _model(entry: dict[str, Any]) -> Line:
    serves = (
        f"waits for {entry['waits_for']}" if entry["waits_for"] else decides_with(entry["release"], entry["own_share"])
    )
    if left := entry["left_to_release"]:
        serves += f", {names(_left(left))} left to the release for want of samples"
    if n := entry["decided_by_one"]:
        serves += f", {counted(n, 'window')} decided by one of the two, as the other overflowed"
    serves += STARTS.get(entry["start_value"], "")
    privacy = _privacy(entry["privacy"]) if entry["privacy"] else ""
    wild = f", {entry['left_out']} wild ones left out" if entry["left_out"] else ""
    wild += f", {n:,} made otherwise before left out" if (n := entry["samples_before"]) else ""
    if n := entry["samples_without_label"]:
        wild += f", {n:,} lost their label, as the model has none of that name"
    far = names(entry["doubtful_channels"])
    doubt = f"; many values of {far} lie far from all others: if they stand for no value, set its range" if far else ""
    doubt += _statistics(entry["statistics"])
    changed = (
        f"; {counted(n, 'change')} made in its file: see --json or the log" if (n := len(entry["file_changes"])) else ""
    )
    judged = f", judged by {entry['judged_by']['text']}" if entry["judged_by"]["units"] else ""
    parts = [how_sure.intervals(entry["intervals"]), how_sure.calibration(entry["calibration"])]
    sure = "".join(f"; {text}" for text in parts if text)
    samples = f"{_samples(entry['samples'])}{wild}{judged}"
    refused = f"; {said}" if (said := entry["refused"]["text"]) and said != entry["problem"] else ""
    more = f"{refused}{privacy}{_readiness(entry['readiness'])}{_age(entry['age'])}{sure}{doubt}{changed}"
    text = f"{serves}, {samples}, {_update(entry)}{more}"
    return Line(text, (entry["problem"],) if entry["problem"] else ())


def _left(labels: dict[str, float]) -> list[str]:
    """Labels that the release decides; with how much it counts where it sees them in samples of other labels."""
    return [
        name if n == 1 else f"{name} (with {n:.0%} of its weight: the release reports it in samples of other labels)"
        for name, n in labels.items()
    ]


def _statistics(entry: dict[str, Any]) -> str:
    """What is known of other sites, or why nothing is; nothing where the owner wants no statistics."""
    if entry["off"]:
        return f"; no statistics: {entry['off']}" if entry["wanted"] else ""
    if entry["refused"]:
        return f"; statistics not exchanged: {printable(entry['refused'])}"
    if entry["sites"]:
        count = sum(map(len, entry["stand_out"].values()))
        differ = f"{counted(count, 'channel')} unlike theirs" if count else "all channels like theirs"
        return f"; compared with statistics of {counted(entry['sites'], 'site')}: {differ}"
    if entry["sent"]:
        return "; statistics sent, too few sites have sent theirs to compare with"
    return f"; statistics from {entry['needs']} windows on (has {entry['windows']})"


def decides_with(release: int, own_share: float | None) -> str:
    """Say what decides: the release (0: the model file), this site's own model, or both."""
    other = f"release {release}" if release else "its file"
    if own_share is None:
        return other
    if not own_share:
        return f"{other} alone, as this site's own model is {'clearly worse' if release else 'no better'} here"
    if own_share == 1:
        return f"this site's own model alone, as {other} is clearly worse here"
    return f"{other} and this site's own model, which counts {own_share:.0%}"


def _readiness(entry: dict[str, Any]) -> str:
    """Why no training comes, and what is doubtful about the data; empty where nothing is."""
    if not entry["trains"]:
        return ""
    text = f"; not ready to train: {entry['lack']}" if entry["lack"] else ""
    alike: dict[str, list[str]] = {}
    for asset, remarks in entry["remarks"].items():
        alike.setdefault("; ".join(remarks), []).append(asset)
    alike.pop(entry["lack"], None)  # it is shown for all together already
    return text + "".join(f"; data of {names(those)}: {remark}" for remark, those in alike.items())


def _age(entry: dict[str, Any]) -> str:
    """How old the release and the own model are; empty where there is neither."""
    ages = []
    if (seconds := entry["release_s"]) is not None:
        ages.append(f"release made {duration(seconds)} ago")
    elif why := entry["release_unknown"]:
        ages.append(f"age of the release unknown: {why}; it has served for {duration(entry['served_s'])}")
    if (seconds := entry["own_s"]) is not None:
        ages.append(f"own model learnt from data up to {duration(seconds)} before the newest")
    elif why := entry["own_unknown"]:
        ages.append(f"age of the own model unknown: {why}")
    return "".join(f"; {text}" for text in ages)


def _samples(counts: dict[str, int]) -> str:
    """How many samples are stored, by label, or with a target."""
    if counts.keys() == {"values", "-"}:
        return f"samples {counts['values']} with a target" + (f", {n} without" if (n := counts["-"]) else "")
    parts = (f"{n} without a label" if label == "-" else f"{n} of label {label}" for label, n in counts.items())
    return "samples " + (", ".join(parts) or "none")


def _output(entry: dict[str, Any]) -> Line:
    """An output; what is zero is left out, but for what always matters."""
    age = f" (the oldest for {duration(entry['oldest_s'])})" if entry["oldest_s"] is not None else ""
    more = {"skipped": "skipped", "withheld": "cleared withheld", "overflowed": "LOST"}
    counts = "".join(f", {entry[name]} {words}" for name, words in more.items() if entry[name])
    text = f"{entry['pending']} waiting{age}, {entry['delivered']} delivered, {entry['refused']} set aside{counts}"
    text += f"; no orders for questions ({why})" if (why := entry.get("asks_not")) else ""
    text += f"; none of {names(of)}, whose labels no closing code gives" if (of := entry.get("asks_not_of")) else ""
    return Line(text, tuple(entry["problems"]))


def _privacy(entry: dict[str, Any]) -> str:
    """What is spent of a model's privacy budget, or why nothing is sent any more."""
    text = (
        f"privacy budget spent: {entry['spent']:.3g} of {entry['epsilon']:.3g}, {counted(entry['left'], 'update')} left"
    )
    if entry["stopped"]:
        text = f"STOPPED {entry['stopped']}"
    return f"; {text}" + (
        f"; {counted(entry['unprotected'], 'update')} carried no noise" if entry["unprotected"] else ""
    )


def _update(entry: dict[str, Any]) -> str:
    """What became of a model's newest update."""
    update = entry["update"]
    text = f"update against release {update['base']} {update['outcome']}" if update else "no update yet"
    if not update and entry["learns"] == "not" and not entry["joined"]:
        text = "not trained here: no aggregator is joined, and own_model is 0"
    elif entry["learns"] == "alone":
        text = f"{f'{text}; ' if update else ''}learns alone{_alone(entry)}"
    return text if entry["asked"] else f"{text}, not asked to train in this round"


def _alone(entry: dict[str, Any]) -> str:
    """How far a site is that learns without a release."""
    own, until = entry["own"], " until the aggregator gives a release" if entry["joined"] else ""
    undone = f", {counted(n, 'training')} discarded, as the result was no better" if (n := own["undone"]) else ""
    if own["guarded"]:
        return (
            f"{until}: its own model does not count yet, as the file is trained, and no whole run, day or machine is "
            f"held back to judge by{undone}"
        )
    return f"{until}{'' if own['trained'] else ': its own model is not trained yet'}{undone}"
