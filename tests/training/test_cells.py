"""One cell, trained for real on a few steps."""

import json
import math
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaling.design import Cell
from scaling.records import Record, Status
from scaling.training import run_cell
from tests.conftest import small_study

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def run(cell: Cell, folder: Path, micro_batch_size: int | None = None) -> Record:
    def ignore(step: int, steps: int, loss: float) -> None: ...

    return run_cell(cell, folder, "cpu", micro_batch_size or cell.recipe.batch_size, time.time(), ignore)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_record_says_everything(task: str, tmp_path: Path) -> None:
    cell = small_study(data__task=task, data__digits=1).cells()[0]
    record = run(cell, tmp_path)
    assert record.status is Status.DONE
    assert record.cell == cell.id
    assert record.test_loss is not None
    assert 0 < record.test_loss < 5
    assert record.test_loss_standard_error is not None
    assert record.test_images == 40
    assert (record.accuracy is None) is (task == "segmentation")
    assert (record.mean_iou is None) is (task == "classification")
    assert record.images_seen == 48
    assert record.gpu_hours is None
    assert record.peak_memory_bytes_per_image is None
    assert record.versions is not None
    assert record.versions["torch"] == torch.__version__.split("+")[0]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]
    weights = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert sum(value.numel() for value in weights.values()) == record.parameters


def test_accumulation_leaves_the_result_alone(tmp_path: Path) -> None:
    cell = small_study(recipe__steps=20).cells()[1]
    whole, split = run(cell, tmp_path), run(cell, tmp_path, micro_batch_size=2)
    assert whole.micro_batch_size == 8
    assert split.micro_batch_size == 2
    assert split.test_loss == pytest.approx(whole.test_loss, rel=1e-4)
    assert split.images_seen == whole.images_seen


def test_the_same_cell_twice_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    cell = small_study(recipe__steps=20, recipe__drop_path=0.1).cells()[0]
    assert run(cell, tmp_path).test_loss == run(cell, tmp_path).test_loss


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    short, long = (small_study(recipe__steps=steps, recipe__learning_rate=3e-3).cells()[1] for steps in (1, 80))
    before, after = run(short, tmp_path).test_loss, run(long, tmp_path).test_loss
    assert before is not None
    assert after is not None
    assert after < 0.7 * before


def test_bf16_trains_close_to_fp32(tmp_path: Path) -> None:
    from accelerate.state import AcceleratorState

    single = run(small_study(recipe__steps=20).cells()[0], tmp_path)
    AcceleratorState._reset_state(True)
    half = run(small_study(recipe__steps=20, recipe__precision="bf16").cells()[0], tmp_path)
    assert half.precision == "bf16"
    assert half.test_loss == pytest.approx(single.test_loss, rel=0.02)
    assert half.test_loss != single.test_loss


def test_a_diverging_cell_is_a_result(tmp_path: Path) -> None:
    cell = small_study(recipe__learning_rate=1e30, recipe__gradient_clip=0, recipe__steps=40).cells()[0]
    record = run(cell, tmp_path)
    assert record.status is Status.DIVERGED
    assert record.test_loss is None
    assert record.error is not None
    assert "training loss is" in record.error


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_agrees_with_the_cpu_and_measures_memory(precision: str, tmp_path: Path) -> None:
    from accelerate.state import AcceleratorState

    expected = run(small_study(recipe__steps=20).cells()[1], tmp_path).test_loss
    AcceleratorState._reset_state(True)
    cell = small_study(recipe__steps=20, recipe__precision=precision).cells()[1]
    record = run_cell(cell, tmp_path, "cuda", 8, time.time(), lambda step, steps, loss: None)
    assert record.status is Status.DONE, record.error
    assert record.test_loss == pytest.approx(expected, rel=0.03)
    assert record.gpu_hours is not None
    assert record.gpu_hours > 0
    assert record.peak_memory_bytes_per_image is not None
    assert record.activation_bytes_per_image is not None
    assert record.peak_memory_bytes_per_image >= record.activation_bytes_per_image


GOLDEN = Path(__file__).parent / "golden_loss.json"


def test_golden_loss_curve(tmp_path: Path) -> None:
    """Training as it was when the curve was stored; regenerate deliberately: python -m tests.training.test_cells."""
    assert golden_curve(tmp_path) == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-3)


def golden_curve(folder: Path) -> list[float]:
    cell = small_study(recipe__steps=20, recipe__warmup_steps=4, recipe__position_init="sincos").cells()[1]
    run(cell, folder)
    losses = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(map(math.isfinite, losses))
    return losses


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        GOLDEN.write_text(json.dumps(golden_curve(Path(temporary)), indent=1) + "\n")
