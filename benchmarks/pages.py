"""What every benchmark shares: timing, and the page of results."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from scaling.grid import find_device
from scaling.training.provenance import commit, device_name, versions

RESULTS = Path(__file__).parent / "results"
Plain = tuple[str, Sequence[str], Sequence[Sequence[str]]]
Table = Plain | tuple[str, Sequence[str], Sequence[Sequence[str]], str]
"""Heading, columns, rows, and what explains them, if anything must."""


def seconds(call: Callable[[], object], repeats: int) -> list[float]:
    """Wall seconds of each of several calls, after one that is not counted."""
    call()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return taken


def in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of calls that take turns, round after round; the first round is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            taken[name].append(time.process_time() - started)
    return {name: times[1:] for name, times in taken.items()}


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """The median of the ratios of each round, and their range."""
    found = [one / other for one, other in zip(over, under, strict=True)]
    return f"{statistics.median(found):.2f} [{min(found):.2f}, {max(found):.2f}]"


def python(*arguments: str) -> Callable[[], object]:
    """A call that runs this interpreter."""
    return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=True)


def release(tool: str) -> str:
    """Version of the package that a tool is named after."""
    name = tool.split()[0].strip(",")
    try:
        return metadata.version({"scaling": "patch-scaling", "hydra": "hydra-core"}.get(name, name))
    except metadata.PackageNotFoundError:
        return "(not installed)"


def write_page(name: str, title: str, tables: Sequence[Table], device: str = "cpu") -> None:
    """Write benchmarks/results/NAME.md: machine, commit, date, command, and tables under their headings.

    Results on another device than the CPU have a page of their own, NAME_DEVICE.md.
    """
    cores = f"{find_device('cpu').count} cores"
    about = {
        "machine": f"{device_name(device)}, {cores}",
        "commit": commit(but=RESULTS) or "none",
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m benchmarks.{name}",
        "load of the machine": f"{os.getloadavg()[2]:.1f} on {cores}, this benchmark included",
        "versions": json.dumps(versions()),
    }
    lines = [f"# {title}", "", *(f"- {key}: {value}" for key, value in about.items())]
    for heading, columns, rows, *note in tables:
        lines += ["", *([f"## {heading}", ""] if heading else [])]
        lines += [line for text in note for line in (text, "")]
        lines += [
            f"| {' | '.join(columns)} |",
            "|" + "---|" * len(columns),
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / (f"{name}.md" if device == "cpu" else f"{name}_{device}.md")
    path.write_text("\n".join(lines) + "\n")
    print(path.read_text())
