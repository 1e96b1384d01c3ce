"""One cell, trained for real on a few steps."""

import json
import math
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaling.design import Cell
from scaling.records import RESUME, Record, Status
from scaling.training import run_cell
from tests.conftest import small_study

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
both = pytest.mark.parametrize("architecture", ["deit", "adventurer"])


def run(cell: Cell, folder: Path, micro_batch_size: int | None = None) -> Record:
    folder.mkdir(exist_ok=True)
    shutil.rmtree(folder / RESUME, ignore_errors=True)  # as when a record is written; so each run trains

    def ignore(step: int, steps: int, loss: float | None) -> None: ...

    return run_cell(cell, folder, "cpu", micro_batch_size or cell.recipe.batch_size, time.time(), ignore)


@both
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_record_says_everything(task: str, architecture: str, tmp_path: Path) -> None:
    cell = small_study(data__task=task, data__digits=1, grid__architectures=[architecture]).cells()[0]
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
    assert record.peak_host_memory_bytes is not None
    assert 2**27 < record.peak_host_memory_bytes < 2**36  # torch alone takes more than an eighth of a GiB
    kernels = (record.attention, record.scan, record.convolution)
    assert kernels == (("sdpa", None, None) if architecture == "deit" else (None, "torch", "torch"))
    assert record.flops_note is None
    assert record.activation_bytes_per_image == record.estimated_activation_bytes_per_image
    assert record.recipe is not None
    assert record.recipe["flip"] == "alternate"
    assert record.versions is not None
    assert record.versions["torch"] == torch.__version__.split("+")[0]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]
    weights = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert sum(value.numel() for value in weights.values()) == record.parameters


@both
def test_accumulation_leaves_the_result_alone(architecture: str, tmp_path: Path) -> None:
    cell = small_study(recipe__steps=20, grid__architectures=[architecture]).cells()[1]
    whole, split = run(cell, tmp_path), run(cell, tmp_path, micro_batch_size=2)
    assert whole.micro_batch_size == 8
    assert split.micro_batch_size == 2
    assert split.test_loss == pytest.approx(whole.test_loss, rel=1e-4)
    assert split.images_seen == whole.images_seen


@both
def test_the_same_cell_twice_is_the_same_to_the_last_bit(architecture: str, tmp_path: Path) -> None:
    cell = small_study(recipe__steps=20, recipe__drop_path=0.1, grid__architectures=[architecture]).cells()[0]
    assert run(cell, tmp_path).test_loss == run(cell, tmp_path).test_loss


@both
def test_training_lowers_the_loss(architecture: str, tmp_path: Path) -> None:
    options = {"recipe__learning_rate": 3e-3, "grid__architectures": [architecture]}
    short, long = (small_study(recipe__steps=steps, **options).cells()[1] for steps in (1, 80))
    before, after = run(short, tmp_path).test_loss, run(long, tmp_path).test_loss
    assert before is not None
    assert after is not None
    assert after < 0.7 * before


@both
def test_bf16_trains_close_to_fp32(architecture: str, tmp_path: Path) -> None:
    from accelerate.state import AcceleratorState

    options = {"recipe__steps": 20, "grid__architectures": [architecture]}
    single = run(small_study(**options).cells()[0], tmp_path)
    AcceleratorState._reset_state(True)
    half = run(small_study(**options, recipe__precision="bf16").cells()[0], tmp_path)
    assert half.precision == "bf16"
    assert half.test_loss == pytest.approx(single.test_loss, rel=0.02)
    assert half.test_loss != single.test_loss


@both
def test_a_cell_starts_from_a_checkpoint(architecture: str, tmp_path: Path) -> None:
    """With next to no learning rate it ends where the first cell did, which had smaller patches."""
    options = {"grid__architectures": [architecture], "recipe__learning_rate": 3e-3}
    first = small_study(recipe__steps=80, **options).cells()[1]
    learned = run(first, tmp_path)
    (tmp_path / f"{architecture}-nano.safetensors").symlink_to(tmp_path / "checkpoint" / "model.safetensors")
    options |= {"recipe__start_from": str(tmp_path / "{architecture}-{size}.safetensors"), "recipe__steps": 1}
    options |= {"recipe__learning_rate": 1e-9, "recipe__resize_patches": "flexivit"}
    coarse, same = small_study(**options).cells()
    again = run(same, tmp_path / "same")
    assert again.test_loss == pytest.approx(learned.test_loss, rel=1e-4)
    assert again.started_from is not None
    assert again.started_from["patches"] == again.started_from["positions"] == "as they are"
    resized = run(coarse, tmp_path / "coarse")
    assert resized.started_from is not None
    assert resized.started_from["patches"] == "from 4 to 8 pixels, flexivit"
    assert resized.started_from["positions"] == "from 4 x 4 to 2 x 2, bicubic"


def test_extended_tokens_train_as_a_design_of_their_own(tmp_path: Path) -> None:
    name = "adventurer-nano/8@16+linear+extend=16"
    cell = small_study(grid__designs=[name]).cells()[-1]
    assert str(cell.design) == name
    record = run(cell, tmp_path)
    assert record.status is Status.DONE
    assert record.sequence_length == 16


def test_a_diverging_cell_is_a_result(tmp_path: Path) -> None:
    cell = small_study(recipe__learning_rate=1e30, recipe__gradient_clip=0, recipe__steps=40).cells()[0]
    record = run(cell, tmp_path)
    assert record.status is Status.DIVERGED
    assert record.test_loss is None
    assert record.error is not None
    assert "training loss is" in record.error


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_agrees_with_the_cpu(precision: str, tmp_path: Path) -> None:
    from accelerate.state import AcceleratorState

    expected = run(small_study(recipe__steps=20).cells()[1], tmp_path).test_loss
    AcceleratorState._reset_state(True)
    cell = small_study(recipe__steps=20, recipe__precision=precision).cells()[1]
    record = run_cell(cell, tmp_path, "cuda", 8, time.time(), lambda step, steps, loss: None)
    assert record.status is Status.DONE, record.error
    assert record.test_loss == pytest.approx(expected, rel=0.03)
    assert record.gpu_hours is not None
    assert record.gpu_hours > 0


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
