"""The `scaling` command as a user types it, in a process of its own."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import IO

from scaling.cli import main

PATIENCE_SECONDS = 120
# What commands import late: once here, and not in every process that is forked.
for name in (
    "matplotlib.figure",
    "pandas",
    "rich.table",
    "scipy.stats",
    "scaling.decisions.planning",
    "scaling.figures",
):
    import_module(name)


def scaling_afresh(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """In a new interpreter: for commands that count or train with torch, which forked processes may not."""
    command = [sys.executable, "-m", "scaling", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=PATIENCE_SECONDS)


def scaling(*arguments: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """In a process forked from this one, which has imported all that takes seconds to import."""
    command = list(map(str, arguments))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = multiprocessing.get_context("fork").Process(target=_type, args=(command, cwd, out, err))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which wait for input
            process.start()
        process.join(PATIENCE_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, PATIENCE_SECONDS)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, process.exitcode, out.read(), err.read())


def _type(command: list[str], cwd: Path | None, out: IO[str], err: IO[str]) -> None:
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115 instead of pytest's own
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    if cwd:
        os.chdir(cwd)
    sys.argv = ["scaling", *command]
    main()
