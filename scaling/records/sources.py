"""Where records are found, and what to say where there are none."""

from pathlib import Path

from scaling.errors import UsageError
from scaling.records.published import published_studies
from scaling.records.store import RecordError, RunDirectory

TABLE_SUFFIXES = (".csv", ".parquet")
SHOWN_RUNS = 3


class SourceError(RecordError, UsageError):
    """A source that is neither a run directory nor a table. The command exits with 2."""


def run_at(path: str | Path) -> RunDirectory:
    """The run directory that a path names.

    Raises:
        SourceError: if it is none, with the one that may be meant.
    """
    run = RunDirectory(path)
    if not run.study_file.is_file():
        raise SourceError(f"{run.path}: not a run directory (no study.toml in it){_meant(run.path)}")
    return run


def check_suffix(path: Path) -> None:
    """Refuse a table of an unknown kind.

    Raises:
        SourceError: with the kinds that there are.
    """
    if path.suffix not in TABLE_SUFFIXES:
        meant = _meant(path) or f"; use {' or '.join(TABLE_SUFFIXES)}"
        raise SourceError(f"{path}: unknown kind of table '{path.suffix}'{meant}")


def missing(path: Path) -> SourceError:
    """What to say of a path where nothing is."""
    ships = " or ".join(map(repr, published_studies()))
    instead = f"; give a run directory, a {' or '.join(TABLE_SUFFIXES)} file, or {ships}"
    return SourceError(f"{path}: no such run directory or table{_meant(path) or instead}")


def _meant(path: Path) -> str:
    """A hint at run directories near a path: of its name below runs/, the one that it is in, or those in it."""
    near = [Path("runs") / path, Path("runs") / path.stem, path.parent]
    found = [run for run in near if (run / "study.toml").is_file()][:1]
    if path.is_dir():
        found += sorted(file.parent for file in path.glob("*/study.toml"))
    more = " or another" if len(found) > SHOWN_RUNS else ""
    return f"; did you mean {', '.join(map(str, found[:SHOWN_RUNS]))}{more}?" if found else ""
