"""Which device cells run on, how many of it and how much memory it has."""

import importlib.util
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from scaling.cores import loaders_of_each, usable_cores
from scaling.cost import Scan
from scaling.design import Cell, DigitsData
from scaling.errors import ScalingError, UsageError, nearest

DEVICE_CHOICES = ("auto", "cpu", "cuda")
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Device:
    """Where cells run: a kind, how many cells it takes at once by default, memory of one.

    `name` is what torch calls a CUDA device.
    """

    kind: str
    count: int
    memory_bytes: int
    name: str | None = None
    machine_bytes: int | None = None
    """Of the whole machine, where cells may use a part of its memory only."""
    loading_cores: int | None = None
    """Beside GPUs, for images in files; all by default. On a CPU, `count` is of its cores."""

    def limited(self, cores: int | None, memory_bytes: int | None) -> "Device":
        """The part of it that may be used; of GPUs, which CUDA_VISIBLE_DEVICES chooses, only the cores beside them.

        Raises:
            UsageError: if a CPU has less.
        """
        if self.kind != "cpu":
            return replace(self, loading_cores=cores and min(cores, usable_cores()))
        if cores is not None and not 1 <= cores <= self.count:
            raise UsageError(f"--cores {cores}: this machine has {self.count}")
        if memory_bytes is not None and not 0 < memory_bytes <= self.memory_bytes:
            gib = 2**30
            raise UsageError(f"--memory {memory_bytes / gib:g}: this machine has {self.memory_bytes / gib:.1f} GiB")
        part = replace(self, count=cores or self.count)
        if memory_bytes is None:
            return part
        return replace(part, memory_bytes=memory_bytes, machine_bytes=self.machine_bytes or self.memory_bytes)

    def with_loaders(self, cell: Cell, processes: int) -> Cell:
        """The cell with its share of the loader processes, so many training at once, where nobody says how many."""
        if cell.resources.data_workers is not None or isinstance(cell.data, DigitsData):
            return cell
        count = loaders_of_each(processes, self.count if self.kind == "cpu" else self.loading_cores)
        return replace(cell, resources=cell.resources.model_copy(update={"data_workers": count}))


def find_device(choice: str) -> Device:
    """The device behind 'auto', 'cpu' or 'cuda'; torch is imported only where a GPU is likely.

    Raises:
        UsageError: for another word.
        ScalingError: for 'cuda' where torch finds no CUDA device.
    """
    if choice not in DEVICE_CHOICES:
        raise UsageError(f"unknown device '{choice}': {nearest(choice, DEVICE_CHOICES)}")
    if choice != "cpu" and (choice == "cuda" or shutil.which("nvidia-smi")) and importlib.util.find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            memory = torch.cuda.get_device_properties(0).total_memory
            return Device("cuda", torch.cuda.device_count(), memory, torch.cuda.get_device_name())
    if choice == "cuda":
        raise ScalingError("no CUDA device found; use --device cpu, or see 'scaling doctor'")
    return Device("cpu", usable_cores(), _ram())


def scan_on(device: Device) -> Scan:
    """How an Adventurer's scan will run, as far as that is known without importing torch."""
    packages = ("mamba_ssm", "causal_conv1d")
    installed = all(importlib.util.find_spec(package) for package in packages)
    return "fused" if device.kind == "cuda" and installed else "recomputed"


def _ram() -> int:
    """Physical memory, or the limit of the container."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP_MEMORY.read_text().strip() if CGROUP_MEMORY.is_file() else "max"
    return min(physical, int(limit)) if limit.isdigit() else physical
