# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent status`: the status page of the running agent, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from fedge_models.errors import UnreachableError
from fedge_models.system import service

from ..health import PROGRAM, STATUS_FILE
from .options import config_option, json_option, load_config

KINDS = ("sources", "assets", "models", "outputs")


@click.command()
@json_option
@config_option
def status(as_json: bool, config_path: Path) -> None:
    """Show how the running agent is."""
    data = service.ask(load_config(config_path).agent.state / STATUS_FILE, PROGRAM)
    if as_json:
        click.echo(data)
        return
    try:
        table = msgspec.json.decode(data)
    except msgspec.DecodeError as e:
        raise UnreachableError(f"{PROGRAM} gave an answer that is no JSON: {e}") from e
    for line in lines(table, config_path):
        click.echo(line)


def lines(table: dict[str, Any], config_path: Path) -> list[str]:
    """The status in lines of text."""
    latency = table["latency"]
    made = [
        f"{table['name']}: up {table['uptime_s']:.0f} s, aggregator {table['aggregator']}",
        f"decisions {latency['decisions']}, p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms",
    ]
    describe = {"sources": _source, "assets": _asset, "models": _model, "outputs": _output}
    for kind in KINDS:
        made += [f"{kind[:-1]} {name}: {describe[kind](entry)}" for name, entry in table[kind].items()]
        if not table[kind]:
            made.append(f"no {kind}: add [{kind[:-1]}.NAME] to {config_path}")
    made += [f"labels of {name}: {text}" for name, entry in table["labels"].items() if (text := labels(entry))]
    return [*made, *_problems(table)]


def labels(entry: dict[str, Any]) -> str:
    """An asset's labels in a line; empty when there are none and nothing is wrong."""
    counts = {k: v for k, v in entry.items() if k not in ("examples", "problem") and v}
    problem = f"; PROBLEM {entry['problem']}" if entry["problem"] else ""
    examples = "".join(f"; last {kind}: {text}" for kind, text in entry["examples"].items() if counts.get(kind))
    return f"{', '.join(f'{v} {k}' for k, v in counts.items())}{examples}{problem}".removeprefix("; ")


def _problems(table: dict[str, Any]) -> list[str]:
    """What is wrong with the agent as a whole."""
    unwritten, inbox = table["unwritten_events"], table["inbox"]
    made = []
    if unwritten["problem"]:
        made.append(f"PROBLEM {unwritten['waiting']} events wait: {unwritten['problem']}")
    if inbox["problem"]:
        made.append(f"PROBLEM a restart would decide again: {inbox['problem']}")
    if any(table["lost"].values()):
        made.append(f"LOST: {', '.join(f'{n} {k}' for k, n in table['lost'].items() if n)}")
    return made


def _source(entry: dict[str, Any]) -> str:
    problems = "; ".join(f"{k}: {v}" for k, v in entry["problems"].items())
    counts = "".join(f", {n} {what}" for what, n in entry["counts"].items())
    line = f"{entry['readings']} readings, newest {entry['age_s']} s ago{counts}"
    return line + (f"; PROBLEM {problems}" if problems else "")


def _asset(entry: dict[str, Any]) -> str:
    last, outside = entry["last"], _outside(entry["out_of_range"])
    if last is None:
        return f"no decision yet; {entry['events']} events{outside}"
    if last["score"] is None:  # JSON has no NaN
        return f"PROBLEM the score is not finite, so it cannot alarm; {entry['events']} events{outside}"
    left = f", {last['hours_left_at_least']:.3g} h left at least" if last["hours_left"] is not None else ""
    limit = f"of {last['threshold']:.4g}" if last["threshold"] is not None else "without a limit"
    return f"{last['label']}, score {last['score']:.4g} {limit}{left}; {entry['events']} events{outside}"


def _outside(counts: dict[str, int]) -> str:
    """How many readings lay outside of a channel's range."""
    return f"; readings out of range: {', '.join(f'{n} of {name}' for name, n in counts.items())}" if counts else ""


def _model(entry: dict[str, Any]) -> str:
    serves = f"waits for {entry['waits_for']}" if entry["waits_for"] else f"release {entry['release']}"
    privacy = _privacy(entry["privacy"]) if entry["privacy"] else ""
    problem = f"; PROBLEM {entry['problem']}" if entry["problem"] else ""
    wild = f", {entry['left_out']} wild ones left out" if entry["left_out"] else ""
    return f"{serves}, {_samples(entry['samples'])}{wild}, {_update(entry)}{privacy}{problem}"


def _samples(counts: dict[str, int]) -> str:
    """How many samples are stored, by label."""
    return "samples " + (", ".join(f"{n} of label {label}" for label, n in counts.items()) or "none")


def _output(entry: dict[str, Any]) -> str:
    twice = "; ".join(f"{key} has the orders {ids}" for key, ids in entry.get("duplicates", {}).items())
    problems = [text for text in (entry["error"], f"DUPLICATES {twice}" if twice else None) if text]
    line = f"{entry['pending']} waiting, {entry['delivered']} delivered, {entry['refused']} refused"
    return line + (f"; PROBLEM {'; '.join(problems)}" if problems else "")


def _privacy(entry: dict[str, Any]) -> str:
    """What is spent of a model's privacy budget, or why nothing is sent any more."""
    text = f"privacy budget spent: {entry['spent']:.3g} of {entry['epsilon']:.3g}, {entry['left']} updates left"
    if entry["stopped"]:
        text = f"STOPPED {entry['stopped']}"
    return f"; {text}" + (f"; {entry['unprotected']} updates carried no noise" if entry["unprotected"] else "")


def _update(entry: dict[str, Any]) -> str:
    """What became of a model's newest update."""
    update = entry["update"]
    text = f"update against release {update['base']} {update['outcome']}" if update else "no update yet"
    return text if entry["asked"] else f"{text}, not asked to train in this round"
