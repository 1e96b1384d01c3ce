"""The tutorial, typed as it stands: every command works, and what the page shows is what it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
PATIENCE_SECONDS = 3600  # for one command on a machine with other work
DURATION = re.compile(r"\d+(\.\d+)? (h|min|s)\b( \d+ (min|s)\b)?")
NUMBER = re.compile(r"[-+]?\d[\d.,]*(e[-+]?\d+)?")


def commands_of(page: str) -> list[tuple[str, list[str]]]:
    """Each command of the console blocks, with the lines that the page shows after it."""
    commands: list[tuple[str, list[str]]] = []
    for block in re.findall(r"(?ms)^```console\n(.*?)^```", page):
        for part in re.split(r"(?m)^\$ ", block)[1:]:
            shell = re.match(r"(.*\\\n)*.*\n", part)
            assert shell
            commands.append((shell[0], part[shell.end() :].splitlines()))
    return commands


def unchanging(line: str) -> str:
    """A line without what another machine changes: numbers, durations, spaces, rules."""
    return re.sub(r"[\s─]+", "", NUMBER.sub("#", DURATION.sub("#", line)))


def is_printed(shown: str, printed: list[str]) -> bool:
    """Whether a line of the page is among those printed; one that ends with '...' is cut there."""
    whole = unchanging(shown.removesuffix("..."))
    return any(line.startswith(whole) if shown.endswith("...") else line == whole for line in printed)


def test_commands_and_what_is_unchanging_are_found() -> None:
    page = "```console\n$ ls \\\n  -a\nfound 3 files in 2 min 5 s\n...\n$ pwd\n```\n"
    assert commands_of(page) == [("ls \\\n  -a\n", ["found 3 files in 2 min 5 s", "..."]), ("pwd\n", [])]
    assert unchanging("found 3 files in 2 min 5 s") == unchanging("found 12  files in 0.7 s") == "found#filesin#"
    assert is_printed("loss 0.51 [0.4, ...", [unchanging("loss 0.532 [0.44, 0.61]")])
    assert not is_printed("loss 0.51", [unchanging("loss unknown"), unchanging("loss 0.51 [0.4, 0.6]")])


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE_SECONDS)
def test_the_tutorial_runs_and_prints_what_it_shows(tmp_path: Path) -> None:
    shell_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": shell_path, "PYTHONPATH": str(PAGE.parents[1])}
    commands = commands_of(PAGE.read_text())
    assert len(commands) > 10
    for command, shown in commands:
        result = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert result.returncode == 0, f"{command}{result.stderr}"
        printed = [unchanging(line) for line in (result.stdout + result.stderr).splitlines()]
        missing = [line for line in shown if not is_printed(line, printed)]
        assert not missing, f"{command}shown, but not printed: {missing}\n{result.stdout}{result.stderr}"
