"""Ways to train the same cell: averaged weights, activation checkpointing, compilation, 8-bit moments."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from scaling.design import build_study
from scaling.errors import UsageError
from scaling.grid import Device, plan_jobs
from scaling.training import building
from tests.conftest import study_values
from tests.training.test_resume import curve, run, small_cell, weights

pytestmark = pytest.mark.usefixtures("fresh_accelerate")
both = pytest.mark.parametrize("architecture", ["deit", "adventurer"])


def test_the_average_of_the_weights_is_kept_and_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against an average written out by hand from the weights after each step."""
    cell, plain, decay = small_cell(recipe__ema_decay=0.6), small_cell(), 0.6
    snapshots: list[dict[str, torch.Tensor]] = []

    class Watched(building.ModelEmaV3):
        def update(self, model: nn.Module, step: int | None = None) -> None:
            snapshots.append({name: value.clone() for name, value in model.state_dict().items()})
            super().update(model, step)

    monkeypatch.setattr(building, "ModelEmaV3", Watched)
    averaged, last = run(cell, tmp_path / "averaged"), run(plain, tmp_path / "plain")
    assert curve(tmp_path / "averaged") == curve(tmp_path / "plain")
    expected = snapshots[0]
    for snapshot in snapshots[1:]:
        expected = {name: decay * value + (1 - decay) * snapshot[name] for name, value in expected.items()}
    found = load_file(tmp_path / "averaged" / "checkpoint" / "model.safetensors")
    assert len(snapshots) == 8
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])
    assert averaged.test_loss != last.test_loss
    assert not all(torch.equal(value, found[name]) for name, value in weights(tmp_path / "plain").items())


@both
def test_activation_checkpointing_saves_bytes_and_changes_no_loss(architecture: str, tmp_path: Path) -> None:
    options = {"grid__architectures": [architecture], "recipe__drop_path": 0.2}
    plain = run(small_cell(**options), tmp_path / "plain")
    less = run(small_cell(**options, resources__activation_checkpointing=True), tmp_path / "less")
    assert curve(tmp_path / "less") == curve(tmp_path / "plain")
    assert less.test_loss == plain.test_loss
    assert less.activation_bytes_per_image is not None
    assert plain.activation_bytes_per_image is not None
    assert less.activation_bytes_per_image < 0.5 * plain.activation_bytes_per_image
    assert less.activation_bytes_per_image == less.estimated_activation_bytes_per_image
    assert less.training_flops_per_image == plain.training_flops_per_image  # without what is run twice
    assert less.resources is not None
    assert less.resources["activation_checkpointing"] is True


COMPILED = """
import sys
from pathlib import Path
from torch._dynamo.utils import counters
from tests.training.test_resume import run, small_cell
record = run(small_cell(resources__compile=True), Path(sys.argv[1]))
assert record.status == "done", record.error
assert counters["stats"]["unique_graphs"] > 0
print(record.test_loss)
"""


@pytest.mark.slow
def test_a_compiled_model_trains_the_same(tmp_path: Path) -> None:
    """In an interpreter of its own: torch.compile does not see through the checks of shapes that tests switch on."""
    plain = run(small_cell(), tmp_path / "plain")
    command = [sys.executable, "-c", COMPILED, str(tmp_path / "compiled")]
    compiled = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(compiled.stdout.split()[-1]) == pytest.approx(plain.test_loss, rel=1e-3)
    assert weights(tmp_path / "compiled").keys() == weights(tmp_path / "plain").keys()


def test_8_bit_moments_need_cuda_and_their_package() -> None:
    study = build_study(study_values(recipe__optimizer="adamw-8bit"))
    with pytest.raises(UsageError, match=r"'adamw-8bit' needs a CUDA device and the package bitsandbytes; use 'adamw'"):
        plan_jobs(study, Device("cpu", 4, 2**34), workers=1)


def test_each_process_of_a_cell_needs_a_gpu() -> None:
    study = build_study(study_values(resources__processes=4))
    with pytest.raises(UsageError, match=r"resources.processes: 4 processes need a GPU each, there are 2"):
        plan_jobs(study, Device("cuda", 2, 2**34), workers=1)
    (job, _) = plan_jobs(study, Device("cuda", 4, 2**34), workers=1)
    assert job.micro_batch_size == 2  # of 8 images on 4 processes
