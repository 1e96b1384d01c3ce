"""A run directory is of the same images from its first cell to its last; cells at once share the cores for loading."""

from pathlib import Path

import pytest

from scaling.cores import loaders_of_each
from scaling.errors import UsageError
from scaling.grid import run_grid
from scaling.grid.devices import Device, find_device
from scaling.grid.jobs import check_same_data, plan_jobs, with_status
from scaling.records import Record, RunDirectory, Status, describe
from tests.conftest import small_study
from tests.data import made


def test_other_images_than_those_of_the_records_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    root, out = made.make_folder(tmp_path / "images"), tmp_path / "run"
    study = made.image_study(root)
    (first,) = run_grid(study, out, device="cpu", only="*/8@*").records
    assert first.data_fingerprint is not None
    image = root / "train" / "bee" / "001.png"
    content = image.read_bytes()
    image.write_bytes(content + b"\0")
    with pytest.raises(UsageError) as caught:
        run_grid(study, out, device="cpu")
    message = str(caught.value)
    assert f"deit-nano/8@16 seed 0 in {out} was trained on ({first.data_fingerprint})" in message
    assert len(message.splitlines()) == 3
    assert message.endswith("put those back, or choose another --out")
    assert len(list((out / "cells").iterdir())) == 1
    assert run_grid(study, out, device="cpu", only="*/8@*").ran == ()  # nothing to train, so nothing to compare
    image.write_bytes(content)
    records = run_grid(study, out, device="cpu").records
    assert [record.data_fingerprint for record in records] == [first.data_fingerprint] * 2


def test_a_stopped_cell_is_not_continued_on_other_images(tmp_path: Path) -> None:
    study, run = made.image_study(made.make_folder(tmp_path / "images")), RunDirectory(tmp_path / "run")
    run.prepare(study)
    cell = study.cells()[0]
    run.begin(cell)
    for status, known in ((Status.FAILED, None), (Status.PREEMPTED, "0123456789abcdef")):
        run.fail(Record(**describe(cell), status=status, data_fingerprint=known), "")
        jobs = with_status(plan_jobs(study, find_device("cpu"), 1), run)
        if known is None:  # it failed before it had seen the data
            check_same_data(jobs, run)
        else:
            with pytest.raises(UsageError, match=known):
                check_same_data(jobs, run)


@pytest.mark.parametrize(("workers", "cores", "loaders"), [(2, None, loaders_of_each(2)), (1, 1, 1)])
def test_cells_at_once_share_the_cores_for_loading_and_records_say_how(
    workers: int, cores: int | None, loaders: int, tmp_path: Path
) -> None:
    study, out = made.image_study(made.make_folder(tmp_path / "images")), tmp_path / "run"
    records = run_grid(study, out, device="cpu", workers=workers, cores=cores).records
    assert [(record.status, (record.resources or {}).get("data_workers")) for record in records] == [
        (Status.DONE, loaders)
    ] * 2


def test_images_are_loaded_on_the_cores_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("scaling.cores", "scaling.grid.devices"):
        monkeypatch.setattr(f"{module}.usable_cores", lambda: 64)
    (cell, *_) = made.image_study(tmp_path).cells()

    def loaders(device: Device, cores: int | None, processes: int) -> int | None:
        return device.limited(cores, None).with_loaders(cell, processes).resources.data_workers

    cpu, gpus = Device("cpu", 64, 1 << 40), Device("cuda", 2, 80 << 30)
    assert [loaders(cpu, cores, 2) for cores in (1, 2, 6, None)] == [1, 1, 3, 8]
    assert [loaders(gpus, cores, 2) for cores in (1, 8, 99, None)] == [1, 4, 8, 8]
    (said, *_) = made.image_study(tmp_path, resources__data_workers=0).cells()
    assert cpu.with_loaders(said, 1) == said
    drawn = small_study().cells()[0]
    assert cpu.with_loaders(drawn, 1) == drawn
