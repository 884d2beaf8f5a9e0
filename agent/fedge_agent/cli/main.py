"""The command line of the agent."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from fedge_models import __version__
from fedge_models.errors import ConfigError, FedgeError
from fedge_models.system import files, malloc, service
from fedge_models.system import unit as units

from ..config import schema as configs
from . import label, model, opcua

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=Path("/etc/fedge/agent.toml"), show_default=True
)


class _Group(click.Group):
    """Errors of ours are one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FedgeError as e:
            click.echo(f"fedge-agent: {e}", err=True)
            sys.exit(1)


@click.group(cls=_Group)
@click.version_option(__version__)
def main() -> None:
    """Read machines, decide, learn, and share only signed updates."""


for command in (model.model_group, model.train, model.evaluate, opcua.trust, opcua.browse):
    main.add_command(command)
main.add_command(label.label)


@main.command()
@config_option
def init(config_path: Path) -> None:
    """Write a commented configuration."""
    from importlib import resources

    if config_path.exists():
        raise ConfigError(f"{config_path}: exists already; it is left alone")
    config_path.parent.mkdir(parents=True, exist_ok=True)
    files.write(config_path, resources.files("fedge_agent").joinpath("agent.example.toml").read_bytes())
    click.echo(f"{config_path}: written. Fill it in, then: fedge-agent check --config {config_path}")


@main.command()
@config_option
def unit(config_path: Path) -> None:
    """Print the systemd unit of this installation.

    Its ExecStart is the program that prints it, with this configuration. Write it to
    /etc/systemd/system/fedge-agent.service.
    """
    click.echo(units.unit("fedge_agent", "fedge-agent", config_path), nl=False)
    for line in units.warnings(config_path):
        click.echo(f"warning: {line}", err=True)


@main.command()
@config_option
def check(config_path: Path) -> None:
    """Validate the configuration and try each connection, without side effects."""
    from .check import check_all

    wrong = 0
    for what, problems in check_all(configs.load(config_path), str(config_path)):
        wrong += bool(problems)
        click.echo(f"{'ok  ' if not problems else 'FAIL'} {what}")
        for problem in problems:
            click.echo(f"     {problem}")
    sys.exit(1 if wrong else 0)


@main.command()
@click.argument("invitation")
@config_option
def join(invitation: str, config_path: Path) -> None:
    """Enrol this gateway with the line that `fedge-aggregator invite` printed."""
    from fedge_models.messages.invitation import decode_invitation

    from ..federation import identity

    config = configs.load(config_path)
    config.agent.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    joined = identity.join(decode_invitation(invitation), config.agent.state)
    click.echo(f"joined {joined.url} as {joined.node}, for: {', '.join(joined.federations)}")
    for name in set(config.model) - set(joined.federations):
        click.echo(f"warning: [model.{name}] is not among them; it will only be served locally", err=True)


@main.command()
@config_option
def start(config_path: Path) -> None:
    """Run until SIGTERM or Ctrl-C."""
    malloc.return_large_blocks()
    from ..app import App

    config = configs.load(config_path)
    logging.basicConfig(level=config.agent.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = App(config, config_path)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: app.stop())
    app.run()


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything, as JSON.")
@config_option
def status(as_json: bool, config_path: Path) -> None:
    """Show how the running agent is."""
    from ..app import STATUS_FILE

    data = service.ask(configs.load(config_path).agent.state / STATUS_FILE, "fedge-agent")
    if as_json:
        click.echo(data)
        return
    table = msgspec.json.decode(data)
    latency = table["latency"]
    click.echo(f"{table['name']}: up {table['uptime_s']:.0f} s, aggregator {table['aggregator']}")
    click.echo(f"decisions {latency['decisions']}, p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms")
    for kind in ("sources", "assets", "models", "outputs"):
        for name, entry in table[kind].items():
            click.echo(f"{kind[:-1]} {name}: {_line(kind, entry)}")
    for name, entry in table["labels"].items():
        if told := label.summary(entry):
            click.echo(f"labels of {name}: {told}")
    unwritten = table["unwritten_events"]
    if unwritten["problem"]:
        click.echo(f"PROBLEM {unwritten['waiting']} events wait: {unwritten['problem']}")
    if table["inbox"]["problem"]:
        click.echo(f"PROBLEM a restart would decide again: {table['inbox']['problem']}")
    if any(table["lost"].values()):
        click.echo(f"LOST: {', '.join(f'{n} {k}' for k, n in table['lost'].items() if n)}")


def _line(kind: str, entry: dict[str, Any]) -> str:
    """One entry of the status in a line for people."""
    if kind == "sources":
        problems = "; ".join(f"{k}: {v}" for k, v in entry["problems"].items())
        counts = "".join(f", {n} {what}" for what, n in entry["counts"].items())
        return f"{entry['readings']} readings, newest {entry['age_s']} s ago{counts}" + (
            f"; PROBLEM {problems}" if problems else ""
        )
    if kind == "assets":
        last = entry["last"]
        said = (
            f"{last['label']}, score {last['score']:.4g} of {last['threshold'] or 0:.4g}" if last else "no decision yet"
        )
        left = f", {last['hours_left_at_least']:.3g} h left at least" if last and last["hours_left"] is not None else ""
        return f"{said}{left}; {entry['events']} events"
    if kind == "models":
        serves = f"waits for {entry['waits_for']}" if entry["waits_for"] else f"release {entry['release']}"
        state = f"{serves}, samples {entry['samples']}, {_update(entry)}"
        state += _privacy(entry["privacy"]) if entry["privacy"] else ""
        return state + (f"; PROBLEM {entry['problem']}" if entry["problem"] else "")
    return f"{entry['pending']} waiting, {entry['delivered']} delivered, {entry['refused']} refused{_trouble(entry)}"


def _trouble(entry: dict[str, Any]) -> str:
    """What is wrong with an output, for people."""
    twice = "; ".join(f"{key} has the orders {ids}" for key, ids in entry.get("duplicates", {}).items())
    problems = [text for text in (entry["error"], f"DUPLICATES {twice}" if twice else None) if text]
    return f"; PROBLEM {'; '.join(problems)}" if problems else ""


def _privacy(entry: dict[str, Any]) -> str:
    """What was spent of a model's privacy budget, or why it takes part no longer."""
    said = f"privacy budget spent: {entry['spent']:.3g} of {entry['epsilon']:.3g}, {entry['left']} updates left"
    if entry["stopped"]:
        said = f"STOPPED {entry['stopped']}"
    return f"; {said}" + (f"; {entry['unprotected']} updates carried no noise" if entry["unprotected"] else "")


def _update(entry: dict[str, Any]) -> str:
    """What became of a model's newest update."""
    update = entry["update"]
    told = f"update against release {update['base']} {update['outcome']}" if update else "no update yet"
    return told if entry["asked"] else f"{told}, not asked to train in this round"
