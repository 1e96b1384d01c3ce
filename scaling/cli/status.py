"""`scaling status`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import Format, amount, console, duration, message, number, print_json, show_table, table

if TYPE_CHECKING:
    from scaling.grid.status import CellStatus, GridStatus

SECONDS = 5.0
NAMED = 20  # cells of a kind that are listed; --format json has all


def status(
    run: Annotated[Path, typer.Argument(help="Run directory.", metavar="RUN")],
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until every cell is finished, or Ctrl-C.")] = False,
    every: Annotated[
        float | None, typer.Option(min=0.5, help="Seconds between two looks of --watch.", show_default="5")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """How far a grid is: states, progress, hours used, expected end, who runs what.

    From anywhere that sees the run directory, whether or not a runner is at work. Changes nothing.

    [bold]Examples[/bold]

    scaling status runs/digits-quick

    scaling status runs/digits-quick --watch

    scaling status runs/digits-quick --format json
    """
    from scaling.errors import UsageError
    from scaling.grid.status import grid_status

    if watch and output is Format.JSON:
        raise UsageError("--watch --format json: JSON is one value; call the command again instead of watching")
    if every is not None and not watch:
        raise UsageError(f"--every {every:g}: is of --watch; add it")
    if watch:
        _watch(run, every or SECONDS)
    elif output is Format.JSON:
        print_json(grid_status(run).to_json())
    else:
        _show(grid_status(run))


def headline(found: "GridStatus") -> str:
    """Counts by state, hours and the expected end, in one line."""
    from scaling.records import FINISHED

    finished = sum(count for state, count in found.counts.items() if state in FINISHED)
    parts = [f"{found.study}: {finished} of {len(found.cells)} cells finished"]
    counts = ", ".join(f"{count} {state}" for state, count in found.counts.items())
    parts.append(f"({counts})")
    for kind, hours in (("GPU", found.gpu_hours), ("CPU", found.cpu_hours)):
        if hours:
            parts.append(f"{amount(hours)} {kind}-hours used" if hours >= 0.01 else f"under 0.01 {kind}-hours used")
    if found.seconds_left is not None:
        end = time.strftime("%a %d %b %H:%M", time.localtime(time.time() + found.seconds_left))
        parts.append(f"about {duration(found.seconds_left)} left, until {end}")
    return f"{parts[0]} {', '.join(parts[1:])}"


def running_rows(cells: "list[CellStatus]") -> list[tuple[str, ...]]:
    """One row per running cell: progress, and who runs it."""
    return [
        (
            cell.name,
            f"{cell.share_done:.0%}",
            number(cell.training_loss),
            duration(cell.running_seconds),
            cell.host or "-",
            str(cell.worker or cell.runner or "-"),
            f"{duration(cell.silent_seconds and max(0.0, cell.silent_seconds))} ago",
        )
        for cell in cells
    ]


COLUMNS = ("running", "trained", "train loss", "for", "host", "process", "sign of life")


def driver_lines(found: "GridStatus") -> list[str]:
    """One line per driver of Ray or Slurm while there is something to do."""
    if found.is_finished:
        return []
    return [
        f"{driver.engine}: {driver.waiting} cells submitted and not begun; driver on {driver.host}, "
        f"process {driver.runner}, {'at work' if driver.lives else 'gone'}"
        for driver in found.drivers
    ]


def problem_lines(found: "GridStatus") -> list[str]:
    """One line per cell that did not finish or that its runner left behind."""
    open_cells = [cell for cell in found.cells if cell.problem and cell.test_loss is None]
    lines = [f"{cell.state}: {cell.name}: {cell.problem.splitlines()[0]}" for cell in open_cells if cell.problem]
    if len(lines) > NAMED:
        lines = [*lines[:NAMED], f"... and {len(lines) - NAMED} more; see --format json"]
    if any(cell.state in ("failed", "preempted", "abandoned") for cell in found.cells):
        lines.append("'scaling run-grid' completes what failed, was preempted or left behind")
    return lines


def _running(found: "GridStatus") -> "list[CellStatus]":
    return [cell for cell in found.cells if cell.state == "running"]


def _show(found: "GridStatus") -> None:
    running = _running(found)
    if running:
        show_table("", COLUMNS, running_rows(running[:NAMED]))
    if len(running) > NAMED:
        print(f"... and {len(running) - NAMED} more running cells")
    print(headline(found))
    for line in driver_lines(found) + problem_lines(found):
        print(line)


def _watch(run: Path, every: float) -> None:
    from scaling.grid.status import grid_status

    found = grid_status(run)
    try:
        if not console().is_terminal:
            while True:
                print(headline(found), flush=True)
                if found.is_finished:
                    return
                time.sleep(every)
                found = grid_status(run)
        from rich.live import Live

        with Live(_drawn(found), console=console(), auto_refresh=False) as live:
            while not found.is_finished:
                time.sleep(every)
                found = grid_status(run)
                live.update(_drawn(found), refresh=True)
    except KeyboardInterrupt:
        message("no longer watching; the grid goes on")


def _drawn(found: "GridStatus") -> Any:
    from rich.console import Group
    from rich.text import Text

    running = _running(found)
    parts: list[Any] = [table("", COLUMNS, running_rows(running[:NAMED]))] if running else []
    return Group(*parts, Text(headline(found)), *map(Text, driver_lines(found) + problem_lines(found)))
