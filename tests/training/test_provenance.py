"""What records and pages say of the code that made them."""

import subprocess
from pathlib import Path

import pytest

from scaling.training.provenance import commit


def test_changes_are_told_but_those_of_a_folder_and_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *name, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "pages").mkdir()
    code, page = tmp_path / "code.py", tmp_path / "pages" / "a.md"
    run = tmp_path / "runs" / "one"
    (run / "cells").mkdir(parents=True)
    (run / "study.toml").touch()
    (run / "cells" / "record.json").touch()
    code.touch()
    page.touch()
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.chdir(tmp_path / "pages")
    clean = commit()
    assert clean is not None
    assert len(clean) == 40
    page.write_text("new")
    assert commit() == f"{clean}+"
    assert commit(but=Path()) == commit(but=tmp_path / "pages") == clean
    assert commit(but=tmp_path / "runs") == f"{clean}+"
    git("checkout", ".")
    (run / "study.toml").write_text("grown")
    (run / "cells" / "record.json").write_text("new")
    assert commit() == clean
    (tmp_path / "study.toml").touch()  # beside the code: no run directory, which has cells
    code.write_text("new")
    assert commit() == f"{clean}+"
    assert commit(but=tmp_path / "pages") == f"{clean}+"
    monkeypatch.chdir("/")
    assert commit() is None
