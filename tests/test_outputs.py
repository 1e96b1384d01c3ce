"""Files that a user asked for: refused before the work, and never half written."""

import os
import re
import resource
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from scaling.outputs import OutputError, check_output, output_file, write_output
from tests.cli.command import scaling

PAPER_FIT = [sys.executable, "-m", "scaling", "fit", "paper"]


def test_a_file_is_replaced_whole_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    check_output(path)
    assert not path.parent.exists()
    write_output(path, "one")
    write_output(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("before")

    with pytest.raises(ZeroDivisionError):
        _stop_half_way(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def _stop_half_way(path: Path) -> None:
    with output_file(path) as part:
        assert part.suffix == path.suffix
        part.write_text("half")
        raise ZeroDivisionError


def test_a_link_stays_a_link_and_a_device_a_device(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_output(tmp_path / "link.txt", "text")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "text"
    write_output(Path(os.devnull), "text")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    with pytest.raises(OutputError, match=r"/dev/full: cannot be written \(No space left on device\)"):
        write_output(Path("/dev/full"), "text")


def test_a_device_needs_no_permission_in_its_folder() -> None:
    child = os.fork()
    if child == 0:  # as an ordinary user, where the tests are not run by one
        with suppress(PermissionError):
            os.setuid(65534)
        try:
            check_output(Path(os.devnull))
        except OutputError:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_folder_and_a_file_among_the_folders_are_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file"):
        check_output(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file is no folder\); choose another place"):
        check_output(tmp_path / "file" / "below" / "a.txt")
    with pytest.raises(OutputError, match="cannot be written"):
        write_output(tmp_path / "file" / "below" / "a.txt", "text")


@pytest.mark.skipif(os.access("/sys", os.W_OK), reason="no folder here is closed to root")
def test_a_folder_that_may_not_be_written_is_refused() -> None:
    with pytest.raises(OutputError, match="no permission to write in /sys"):
        check_output(Path("/sys/a.txt"))


def test_a_full_disk_leaves_no_empty_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PAPER_FIT, "--out", "fit.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),  # as full after 1,000 bytes
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == ("error: fit.json: cannot be written (File too large); choose another place")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ("fit", "no.csv", "--out", "taken/fit.json"),
        ("plot", "no.csv", "--figure", "all", "--out", "taken/figures"),
        ("table", "no.csv", "--out", "taken/tables.md"),
        ("table", "no.csv", "--format", "csv", "--out", "taken"),
        ("report", "no.csv", "--out", "taken/report.html"),
        ("plan", "--study", "no.csv", "--budget", "1e21 flops", "--save", "taken/plan.json"),
        ("plan", "--study", "no.csv", "--budget", "1e21 flops", "--figure", "taken/plan.png"),
        ("plan", "--study", "no.csv", "--schedule", "deit-base/16@224", "--write", "taken/schedule.toml"),
    ],
    ids=" ".join,
)
def test_a_command_refuses_its_output_before_it_reads_a_source(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    done = scaling(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(
        r"^error: taken/.*: cannot be written \(.*taken is no folder\); choose another place$", done.stderr
    )
