"""Experiment trackers: sinks beside a cell's own files, which stay the only truth.

Each tracker of a cell has a thread of its own, so that a slow or broken one costs training nothing.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from scaling.design import Cell
from scaling.errors import UsageError, nearest
from scaling.records import Record, RunDirectory, describe

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
"""Names of the option's values, the modules and the extras."""
JOIN_SECONDS = 0.2
RESULTS = (
    *("test_loss", "test_loss_standard_error", "accuracy", "accuracy_top5", "calibration_error", "mean_iou"),
    *("pixel_accuracy", "parameters", "forward_flops_per_image", "training_flops_per_image", "training_flops"),
    *("activation_bytes_per_image", "peak_memory_bytes_per_image", "images_seen", "images_per_second"),
    *("training_seconds", "data_seconds", "evaluation_seconds", "gpu_hours", "rolled_back_steps"),
)
"""What a tracker is told of a record, where it is known."""


def check_trackers(names: Iterable[str]) -> None:
    """Raise UsageError for a tracker that is unknown or not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"--log {name}: {nearest(name, TRACKERS)}")
        spec = find_spec(name)
        if spec is None or spec.origin is None:  # a folder 'wandb' in the working directory is no package
            raise UsageError(f"--log {name}: it is not installed; run: pip install 'patch-scaling[{name}]'")


class Logged(NamedTuple):
    """A training loss, as metrics.jsonl has it."""

    step: int
    loss: float


class Tracking:
    """The trackers of one cell."""

    def __init__(self, names: Sequence[str], cell: Cell, run: RunDirectory) -> None:
        self._sinks = [_Sink(_Source(name, cell, run)) for name in names]

    def report(self, step: int, loss: float) -> None:
        """Pass on a training loss, and wait for nobody."""
        for sink in self._sinks:
            sink.news.put(Logged(step, loss))

    def finish(self, record: Record, patience_seconds: Callable[[], float]) -> None:
        """Pass on what a cell's record says, and wait for slow trackers for so long in all, asked again and again."""
        for sink in self._sinks:
            sink.news.put(record)
        began = time.monotonic()
        for sink in self._sinks:
            while sink.is_alive() and time.monotonic() - began < patience_seconds():
                sink.join(JOIN_SECONDS)
            if sink.is_alive():
                waited = time.monotonic() - began
                _note(f"--log {sink.name}: not done after {waited:.0f} s; what it lacks is in metrics.jsonl")


class _Sink(threading.Thread):
    """Passes news of a cell on to one tracker, until that fails."""

    def __init__(self, source: "_Source") -> None:
        super().__init__(daemon=True, name=source.name)
        self.news: SimpleQueue[Logged | Record] = SimpleQueue()
        self._source = source
        self.start()

    def run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # whatever it is, the cell goes on
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            _note(f"--log {self.name}: {type(error).__name__}: {reason}; the cell goes on without it")

    def _follow(self) -> None:
        tracker, last = None, None
        while isinstance(news := self.news.get(), Logged):
            if tracker is not None and last is not None and news.step <= last:  # rolled back, or begun again
                tracker.finish()
                tracker = None
            tracker = tracker or self._source.open(news.step)
            tracker.log({"training_loss": news.loss}, step=news.step)
            last = news.step
        results = {name: value for name in RESULTS if (value := getattr(news, name)) is not None}
        if results:
            tracker = tracker or self._source.open(None)
            tracker.log(results, step=last or news.steps)
        if tracker is not None:
            tracker.finish()


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the run of a cell in one tracker is opened, for the first time or again."""

    name: str
    cell: Cell
    run: RunDirectory

    def open(self, first_step: int | None) -> "GeneralTracker":
        """The cell's run; what it has from this step on is going to be logged again."""
        from accelerate import PartialState

        PartialState(cpu=True)  # trackers need one; where the cell is trained in this process, its own stays
        return getattr(self, f"_{self.name}")(first_step)

    def _tensorboard(self, first_step: int | None) -> "GeneralTracker":
        from accelerate.tracking import TensorBoardTracker
        from torch.utils.tensorboard.summary import hparams

        tracker = TensorBoardTracker(self.cell.name, self._folder, purge_step=first_step)
        tracker.start()
        # Accelerate would put them into a run of their own, named by the time.
        for summary in hparams(self._config, {"test_loss": None}):
            tracker.writer._get_file_writer().add_summary(summary)
        return tracker

    def _wandb(self, _first_step: int | None) -> "GeneralTracker":
        from accelerate.tracking import WandBTracker
        from wandb import Settings  # pyright: ignore[reportMissingImports]

        file = self._run_file
        if not file.exists():
            file.write_text(uuid.uuid4().hex[:12])
        place = {} if "WANDB_DIR" in os.environ else {"dir": str(self.run.path)}  # it makes a folder 'wandb' there
        tracker = WandBTracker(
            self.cell.study,
            name=self.cell.name,
            id=file.read_text(),
            resume="allow",
            settings=Settings(console="off"),
            **place,
        )
        tracker.start()
        tracker.store_init_configuration(self._config)
        return tracker

    def _mlflow(self, _first_step: int | None) -> "GeneralTracker":
        import mlflow  # pyright: ignore[reportMissingImports]
        from accelerate.tracking import MLflowTracker
        from filelock import FileLock

        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri(f"sqlite:///{self._folder / 'mlflow.db'}")
        self._folder.mkdir(exist_ok=True)
        with FileLock(self._folder / "opening.lock"):  # two cells that make its tables at once fail
            mlflow.set_experiment(self.cell.study)
        file = self._run_file
        known = file.read_text() if file.exists() else None
        tracker = MLflowTracker(self.cell.study, run_id=known, run_name=self.cell.name)
        tracker.start()
        if known is None:
            tracker.store_init_configuration(self._config)  # may not change
            file.write_text(tracker.active_run.info.run_id)
        return tracker

    def _trackio(self, _first_step: int | None) -> "GeneralTracker":
        from accelerate.tracking import TrackioTracker

        os.environ.setdefault("TRACKIO_DIR", str(self._folder))  # read when trackio is imported
        tracker = TrackioTracker(self.cell.study, name=self.cell.name, resume="allow")
        tracker.start()
        tracker.store_init_configuration(self._config)
        return tracker

    @property
    def _folder(self) -> Path:
        """Files of a local tracker."""
        return self.run.path.absolute() / self.name

    @property
    def _run_file(self) -> Path:
        """Notes which run of the tracker the cell is; it goes away with the cell's folder."""
        return self.run.cell_folder(self.cell.id) / f"{self.name}-run.txt"

    @property
    def _config(self) -> dict[str, bool | int | float | str]:
        return dict(_flat(describe(self.cell)))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Plain values by dotted key."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield prefix + key, value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _note(line: str) -> None:
    """Write a line to the cell's log, where the disk allows it."""
    with suppress(OSError):
        print(line, flush=True)
