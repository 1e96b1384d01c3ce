"""The committed studies: they load, belong to the built-in study, and carry what their figures show."""

from pathlib import Path

import pytest

from scaling.design import load_study
from scaling.records import RunDirectory, Status

RUNS = Path(__file__).parents[1] / "runs"
ANALYSIS = Path(__file__).parents[1] / "analysis"


@pytest.mark.parametrize("name", sorted(path.name for path in RUNS.iterdir() if path.is_dir()))
def test_reference_study_is_whole(name: str) -> None:
    run = RunDirectory(RUNS / name)
    study = run.study()
    assert study == load_study(name)
    records = {record.cell: record for record in run.records()}
    assert set(records) == {cell.id for cell in study.cells()}
    assert {record.status for record in records.values()} == {Status.DONE}
    assert all(record.commit for record in records.values())
    assert (ANALYSIS / name / "figure1.png").is_file()
    assert (ANALYSIS / name / "fit.json").is_file()


def test_digits_quick_falls_at_every_smaller_patch() -> None:
    by_size: dict[str, list[tuple[int, float]]] = {}
    for record in RunDirectory(RUNS / "digits-quick").records():
        assert record.test_loss is not None
        by_size.setdefault(record.size, []).append((record.patch_size, record.test_loss))
    assert set(by_size) == {"nano", "micro"}
    for points in by_size.values():
        losses = [loss for _, loss in sorted(points)]
        assert losses == sorted(losses)
        assert len(losses) >= 4
