import json
import os
import threading
from pathlib import Path

import pandas as pd
import pytest

from scaling.records import Record, RecordError, RunDirectory, Status, describe, load_records, save_table, write_whole
from tests.conftest import small_study


def record(index: int = 0, **changes: object) -> Record:
    cell = small_study(grid__patch_sizes=[8, 4, 2]).cells()[index]
    return Record.model_validate({**describe(cell), "status": Status.DONE, "test_loss": 0.5 + index, **changes})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    study = small_study(grid__patch_sizes=[8, 4, 2])
    directory.prepare(study)
    for index, cell in enumerate(study.cells()):
        directory.begin(cell)
        directory.finish(record(index))
    return directory


def test_records_come_back_as_written(run: RunDirectory) -> None:
    assert list(run.records()) == [record(index) for index in range(3)]


def test_a_finished_record_never_changes(run: RunDirectory) -> None:
    path = run.cell_folder(record().cell) / "record.json"
    before = path.read_bytes()
    run.finish(record(test_loss=9.9))
    assert path.read_bytes() == before


def test_a_failure_is_shown_and_gives_way_to_a_record(run: RunDirectory) -> None:
    study = small_study(grid__patch_sizes=[8, 4, 2], grid__seeds=[0, 5])
    run.prepare(study)
    cell = study.cells()[1]
    run.begin(cell)
    failed = Record(**describe(cell), status=Status.FAILED, error="no luck")
    run.fail(failed, "Traceback ...")
    assert run.record(cell.id) is None
    assert failed in list(run.records())
    assert run.status(cell.id) is Status.FAILED
    run.finish(failed.model_copy(update={"status": Status.DONE, "error": None}))
    assert [r.status for r in run.records()] == [Status.DONE] * 4


def test_readers_never_meet_half_a_file(tmp_path: Path) -> None:
    path, stop = tmp_path / "file.json", threading.Event()
    texts = [json.dumps({"n": n, "filler": str(n) * 20_000}) for n in range(2)]
    write_whole(path, texts[0])

    def rewrite() -> None:
        while not stop.is_set():
            for text in texts:
                write_whole(path, text)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for _ in range(300):
            assert path.read_text() in texts
    finally:
        stop.set()
        writer.join()
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema_version": 1, "cell": "ab', "cut off or not a record"),
        ("", "cut off or not a record"),
        ("[1]", "cut off or not a record"),
        ('{"cell": "ab"}', "cut off or not a record"),
        ('{"schema_version": 2}', "record of schema version 2, this version of scaling reads 1"),
        ('{"schema_version": 1, "cell": "ab"}', "study: field required"),
    ],
)
def test_a_broken_record_is_named_and_nothing_is_changed(run: RunDirectory, content: str, message: str) -> None:
    path = run.cell_folder(record().cell) / "record.json"
    path.write_text(content)
    with pytest.raises(RecordError) as caught:
        load_records(run.path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_text() == content


def test_a_record_that_cannot_be_read_is_not_called_broken(run: RunDirectory) -> None:
    path = run.cell_folder(record().cell) / "record.json"
    path.unlink()
    path.symlink_to(path)  # which has no end
    with pytest.raises(RecordError, match=r"record.json: cannot be read .Too many levels") as caught:
        load_records(run.path)
    assert "move" not in str(caught.value)


def test_a_directory_in_which_nothing_is_finished_may_be_removed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.prepare(small_study())
    with pytest.raises(RecordError, match=r"choose another --out, or remove .*run, in which no cell is finished"):
        run.prepare(small_study(data__canvas=24))


def test_another_study_is_refused_and_a_grown_grid_welcome(run: RunDirectory) -> None:
    before = run.study_file.read_bytes()
    with pytest.raises(RecordError, match="belongs to study 'small', not 'other'; choose another --out"):
        run.prepare(small_study(name="other"))
    with pytest.raises(RecordError, match=r"was made with recipe.learning_rate = 0.001, the study now says 0.1"):
        run.prepare(small_study(recipe__learning_rate=0.1))
    with pytest.raises(RecordError, match=r"data.canvas = 16, the study now says 24; choose another --out$"):
        run.prepare(small_study(data__canvas=24))
    assert run.study_file.read_bytes() == before
    run.prepare(small_study(grid__patch_sizes=[8, 4, 2, 1], recipe__micro_batch_size=4))
    assert run.study().grid.patch_sizes == (8, 4, 2, 1)


def test_cells_the_study_no_longer_has_are_left_out_but_kept(run: RunDirectory) -> None:
    run.prepare(small_study(grid__patch_sizes=[4, 2]))
    assert [record.patch_size for record in run.records()] == [4, 2]
    assert len(list(run.path.glob("cells/*/record.json"))) == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"cannot be written .*; choose another --out"):
        RunDirectory(tmp_path / "file" / "run").prepare(small_study())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RecordError, match="Permission denied"):
        RunDirectory(tmp_path / "run").prepare(small_study())


def test_table_is_in_design_order_with_nested_columns(run: RunDirectory) -> None:
    table = load_records(run.path)
    assert list(table["patch_size"]) == [8, 4, 2]
    assert list(table["recipe.learning_rate"]) == [1e-3] * 3


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_survive_export(run: RunDirectory, tmp_path: Path, suffix: str) -> None:
    table = load_records(run.path)
    save_table(table, tmp_path / "new" / f"table{suffix}")
    again = load_records(tmp_path / "new" / f"table{suffix}")
    pd.testing.assert_series_equal(again["test_loss"], table["test_loss"])
    assert list(again.columns) == list(table.columns)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.txt", "a\n1\n", "unknown kind of table '.txt'"),
        ("table.csv", "", "cannot be read as a table"),
        ("table.csv", "a,b\n", "the table has no rows"),
        ("table.parquet", "nonsense", "cannot be read as a table"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordError, match=message):
        load_records(tmp_path / name)


def test_folders_that_are_no_run_or_hold_no_record(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a run directory"):
        load_records(tmp_path)
    RunDirectory(tmp_path).prepare(small_study())
    with pytest.raises(RecordError, match="no cell is finished yet"):
        load_records(tmp_path)


def test_a_grid_grows_by_a_size_with_settings_of_its_own(tmp_path: Path) -> None:
    run, table = RunDirectory(tmp_path / "run"), {"sizes": ["micro"], "drop_path": 0.1}
    run.prepare(small_study())
    grown = small_study(grid__sizes=["nano", "micro"], recipe__by_size=[table])
    run.prepare(grown)
    other = small_study(grid__sizes=["nano", "micro"], recipe__by_size=[table | {"drop_path": 0.2}])
    with pytest.raises(RecordError, match=r"recipe.drop_path = 0.1 for size micro, the study now says 0.2; choose"):
        run.prepare(other)
