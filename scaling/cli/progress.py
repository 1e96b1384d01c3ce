"""What people see while a grid runs: a live table in a terminal, plain lines elsewhere. On stderr."""

import time
from contextlib import AbstractContextManager
from typing import Any

from scaling.cli.output import console, duration, message, number, table
from scaling.grid import Board, Row
from scaling.records import FINISHED, Status

LIVE_ROWS = 24
NARROW_TERMINAL = 110
PLAIN_STEP = 0.25  # share of a cell's training between two plain lines
STOPPING = "stopping: running cells have {seconds:g} s to save; a second Ctrl-C kills them"
COLOURS = {"running": "cyan", "done": "green", "failed": "red"} | dict.fromkeys(
    ("oom", "diverged", "preempted", "stopped"), "yellow"
)


def summary(board: Board) -> str:
    """Counts and the time left, in one line."""
    parts = [f"{board.count(*FINISHED)} of {len(board.rows)} cells finished"]
    told = (Status.RUNNING, Status.FAILED, Status.PREEMPTED, Status.STOPPED)
    counts = [(board.count(status), status) for status in told]
    parts += [f"{count} {status}" for count, status in counts if count]
    left = board.seconds_left()
    if left is not None and board.count(Status.PLANNED, Status.RUNNING):
        parts.append(f"about {duration(left)} left")
    if board.stopping_seconds is not None:
        parts = [parts[0], STOPPING.format(seconds=board.stopping_seconds)]
    return ", ".join(parts)


def result(row: Row) -> str:
    """What a finished cell came to."""
    record = row.record
    if row.status is Status.RUNNING:
        return f"on {row.elsewhere}" if row.elsewhere else ""
    if record is None:
        return "" if row.status is not Status.DONE else "from an earlier run"
    if record.status is not Status.DONE:
        return record.error or ""
    return number(record.test_loss, record.test_loss_standard_error)


class LiveTable(AbstractContextManager["LiveTable"]):
    """Observer that redraws a table in place."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(console=console(stderr=True), refresh_per_second=4, transient=True)

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, board: Board) -> None:
        """Show the present state."""
        self._live.update(self.draw(board))

    def draw(self, board: Board) -> Any:
        """The table; running cells first where there are too many to show."""
        rows = list(board.rows.values())
        if len(rows) > LIVE_ROWS:
            urgency = {Status.RUNNING: 0, Status.FAILED: 1, Status.PLANNED: 3}
            rows = sorted(rows, key=lambda row: urgency.get(row.status, 2))[:LIVE_ROWS]
        from rich.text import Text

        cells = [
            (
                row.job.cell.name,
                Text(row.status, style=COLOURS.get(row.status, "")),
                f"{row.share_done:.0%}",
                number(row.loss),
                result(row),
                duration(board.elapsed(row)),
                duration(board.seconds_left_of(row)),
            )
            for row in rows
        ]
        columns = ("cell", "status", "trained", "train loss", "test loss", "time", "left")
        if self._live.console.width < NARROW_TERMINAL:  # keep what matters most
            columns, cells = columns[:3] + columns[4:5], [cell[:3] + cell[4:5] for cell in cells]
        drawn = table("", columns, cells, left=2)
        drawn.caption, drawn.caption_justify = Text(summary(board)), "left"
        return drawn


class PlainLines(AbstractContextManager["PlainLines"]):
    """Observer that prints a line when something happened."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[Status, int]] = {}
        self._said_stopping = False
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def __call__(self, board: Board) -> None:
        """Print what is new."""
        if board.stopping_seconds is not None and not self._said_stopping:
            self._said_stopping = True
            message(f"{duration(time.monotonic() - self._started):>11}  {summary(board)}")
        for cell_id, row in board.rows.items():
            state = (row.status, int(row.share_done / PLAIN_STEP))
            before = self._said.setdefault(cell_id, (row.job.status, int(row.share_done / PLAIN_STEP)))
            if state != before:
                self._said[cell_id] = state
                message(f"{duration(time.monotonic() - self._started):>11}  {self._line(board, row)}")

    def _line(self, board: Board, row: Row) -> str:
        if row.status is Status.RUNNING and row.step:
            return f"{row.job.cell.name}: {row.share_done:.0%}, train loss {number(row.loss)}; {summary(board)}"
        if row.status is Status.RUNNING:
            return f"{row.job.cell.name}: {result(row) or 'started'}"
        if row.status is Status.PLANNED:
            return f"{row.job.cell.name}: to be submitted again: {row.elsewhere}"
        test_loss = "test loss " if row.status is Status.DONE else ""
        return f"{row.job.cell.name}: {row.status}, {test_loss}{result(row)}, {duration(row.seconds)}; {summary(board)}"


def progress() -> LiveTable | PlainLines:
    """The observer that suits where stderr goes."""
    return LiveTable() if console(stderr=True).is_terminal else PlainLines()
