"""Run a study's cells, here or on a cluster. The runner imports torch only to find a GPU."""

from scaling.grid.board import Board, Row
from scaling.grid.conduct import Conduct
from scaling.grid.devices import Device, find_device
from scaling.grid.doctor import Check, examine, require_training
from scaling.grid.engines.cluster import Cluster
from scaling.grid.jobs import Job, check_trainable, plan_jobs, selected_cells, with_status
from scaling.grid.runner import GridResult, run_grid, worker_count
from scaling.grid.status import CellStatus, GridStatus, grid_status
from scaling.grid.tracking import check_trackers

__all__ = [
    "Board",
    "CellStatus",
    "Check",
    "Cluster",
    "Conduct",
    "Device",
    "GridResult",
    "GridStatus",
    "Job",
    "Row",
    "check_trackers",
    "check_trainable",
    "examine",
    "find_device",
    "grid_status",
    "plan_jobs",
    "selected_cells",
    "require_training",
    "run_grid",
    "with_status",
    "worker_count",
]
