"""What is said of a source that has no records."""

from pathlib import Path

import pytest

from scaling.errors import UsageError
from scaling.records import RecordError, RunDirectory, SourceError, load_records, run_at
from tests.conftest import small_study


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two runs, of which one has a study file beside."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "other"):
        RunDirectory(Path("runs") / name).prepare(small_study(name=name))
    Path("mine.toml").write_text((tmp_path / "runs/mine/study.toml").read_text())
    return tmp_path


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("mine", "mine: not a run directory (no study.toml in it); did you mean runs/mine?"),
        ("mine.toml", "did you mean runs/mine?"),
        ("runs/other/study.toml", "did you mean runs/other?"),
        ("runs/other/cells", "did you mean runs/other?"),
        ("runs", "did you mean runs/mine, runs/other?"),
        ("nowhere", "nowhere: not a run directory (no study.toml in it)"),
    ],
)
def test_no_run_directory_is_wrong_use_with_a_hint_at_the_one_that_is_near(
    folder: Path, source: str, words: str
) -> None:
    with pytest.raises(SourceError) as raised:
        run_at(source)
    assert str(raised.value).endswith(words)
    assert isinstance(raised.value, UsageError)
    assert isinstance(raised.value, RecordError)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("mine", "mine: no such run directory or table; did you mean runs/mine?"),
        ("mine.toml", "mine.toml: unknown kind of table '.toml'; did you mean runs/mine?"),
        ("nowhere", "no such run directory or table; give a run directory, a .csv or .parquet file, or 'paper'"),
    ],
)
def test_no_table_is_wrong_use_too(folder: Path, source: str, words: str) -> None:
    with pytest.raises(SourceError) as raised:
        load_records(source)
    assert words in str(raised.value)


def test_a_run_without_results_is_work_that_is_missing(folder: Path) -> None:
    with pytest.raises(RecordError, match="no cell is finished yet") as raised:
        load_records("runs/mine")
    assert raised.value.exit_code == 1
