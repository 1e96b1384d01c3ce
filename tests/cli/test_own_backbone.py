"""docs/own-backbone.md: its architecture counted, trained by workers, and broken on purpose."""

import json
from pathlib import Path

import pytest

from scaling.cost import Execution, Head, architectures
from scaling.design import Design, Precision, known_architectures
from tests.cli.command import scaling, scaling_afresh

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "architectures" / "mixer.py"
STUDY = """
name = "own"
[data]
name = "digits"
task = "classification"
canvas = 16
digits = 1
test_images = 20
[grid]
architectures = [{names}]
sizes = ["nano"]
patch_sizes = [8]
input_sizes = [16]
[recipe]
steps = 2
batch_size = 4
learning_rate = 1e-3
"""


def project(folder: Path, **changed: tuple[str, str]) -> Path:
    """A folder with a study of architectures that are the page's, each with words of it replaced."""
    (folder / "architectures").mkdir(exist_ok=True)
    for name, (old, new) in changed.items():
        assert old in EXAMPLE.read_text()
        text = EXAMPLE.read_text().replace(old, new).replace('("mixer"', f'("{name}"')
        (folder / "architectures" / f"{name}.py").write_text(text)
    (folder / "own.toml").write_text(STUDY.format(names=", ".join(f'"{name}"' for name in changed)))
    return folder


def test_the_page_shows_the_file_that_is_tested_here_and_it_is_short() -> None:
    text = EXAMPLE.read_text()
    assert text in (DOCS / "own-backbone.md").read_text()
    assert len(text.splitlines()) < 60


@pytest.fixture
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers as they are without the user's own, before and after."""
    monkeypatch.setattr("scaling.design.architectures._ARCHITECTURES", dict(known_architectures()))
    monkeypatch.setattr("scaling.cost.architectures._BACKBONES", dict(architectures._BACKBONES))


def errors_of(name: str, precision: Precision = "bf16") -> dict[str, float | None]:
    """Of every quantity of a design, counted in this process; by fvcore too."""
    from scaling.training.check import check

    design = Design.parse(name)
    return {one.quantity: one.error for one in check(design, Head(10, design.head), Execution(precision))}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["mixer-nano/4@16", "mixer-48x2/8@16x24", "mixer-nano/8@16+linear"])
@pytest.mark.usefixtures("nothing_registered")
def test_closed_forms_are_what_is_counted(monkeypatch: pytest.MonkeyPatch, name: str, precision: Precision) -> None:
    monkeypatch.chdir(DOCS / "examples")
    errors = errors_of(name, precision)
    assert set(errors.values()) == {0.0}
    assert {"parameters: mixer", "forward FLOPs: mlp", "saved activation bytes"} <= errors.keys()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["upernet", "cascade"])
@pytest.mark.usefixtures("nothing_registered")
def test_closed_forms_are_what_is_counted_with_large_heads(monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    monkeypatch.chdir(DOCS / "examples")
    assert set(errors_of(f"mixer-nano/8@16+{head}", "fp32").values()) <= {0.0, None}


@pytest.mark.usefixtures("nothing_registered")
def test_terms_that_disagree_with_the_model_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, mixer=("terms.mlp_flops(d, T, d // 2)", "terms.mlp_flops(d, T, d)")))
    wrong = {quantity: error for quantity, error in errors_of("mixer-nano/8@16").items() if error != 0}
    mixing = "forward FLOPs: projections + attention + convolution + scan"
    assert wrong.keys() == {mixing, "forward FLOPs", "training FLOPs"}
    assert wrong[mixing] == 1


@pytest.mark.usefixtures("nothing_registered")
def test_parts_with_names_of_their_own_are_compared_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project(tmp_path, mixer=("self.mixer", "self.over_tokens")))
    errors = errors_of("mixer-nano/8@16")
    assert errors["parameters: blocks"] == errors["forward FLOPs"] == 0
    assert "parameters: mlp" not in errors


def test_workers_train_it_and_the_run_keeps_its_code(tmp_path: Path) -> None:
    project(tmp_path, mixer=("", ""))
    file = tmp_path / "architectures" / "mixer.py"
    command = ("run-grid", "own.toml", "--workers", "1", "--device", "cpu")
    result = scaling_afresh(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(scaling("records", "runs/own", "--format", "json", cwd=tmp_path).stdout)
    assert (row["design"], row["status"]) == ("mixer-nano/8@16", "done")
    assert row["forward_flops_per_image"] == row["estimated_forward_flops_per_image"]
    assert row["activation_bytes_per_image"] == row["estimated_activation_bytes_per_image"]
    assert (tmp_path / "runs/own/architectures/mixer.py").read_text() == file.read_text()

    file.write_text(file.read_text() + "# a remark\n")
    assert scaling(*command, cwd=tmp_path).returncode == 0
    file.write_text(file.read_text().replace("4 * width", "3 * width"))
    changed = scaling(*command, cwd=tmp_path)
    assert changed.returncode == 1
    assert "architectures/mixer.py is not the code that cells were trained with" in changed.stderr

    file.unlink()  # as where a run directory came without its project; its copy is not run
    moved = scaling("run-grid", "runs/own", cwd=tmp_path)
    assert moved.returncode == 2
    assert "one of your own is read from architectures/mixer.py here (run directories keep a copy)" in moved.stderr


def test_what_is_wrong_with_a_block_is_one_line_and_can_be_mended(tmp_path: Path) -> None:
    project(
        tmp_path,
        broken=("nn.LayerNorm(width), nn.LayerNorm(width)", "nn.LayerNorm(width)"),
        narrow=("return x + self.drop_path(self.mlp(self.norm2(x)))", "return x[..., 1:]"),
        miscounted=("mixer=terms.mlp_parameters(T, d // 2)", "mixer=0 * T"),
    )
    result = scaling_afresh("run-grid", "own.toml", "--workers", "1", "--device", "cpu", cwd=tmp_path)
    assert result.returncode == 1
    assert (
        "broken-nano/8@16: the block of 'broken' of architectures/broken.py fails on tokens of shape (2, 5, 32): "
        "TypeError: cannot unpack non-iterable LayerNorm object (line "
    ) in result.stderr
    assert (
        "'narrow' of architectures/narrow.py makes (2, 5, 31) of tokens of shape (2, 5, 32); it must keep the shape"
    ) in result.stderr
    assert "'miscounted' of architectures/miscounted.py has" in result.stderr
    assert "Traceback" not in result.stderr
    (failure,) = [path for path in tmp_path.glob("runs/own/cells/*/failure.json") if "broken" in path.read_text()]
    assert "self.norm1, self.norm2 = nn.LayerNorm(width)" in json.loads(failure.read_text())["details"]

    project(tmp_path, broken=("", ""))
    assert scaling("run-grid", "own.toml", "--dry-run", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    "change",
    [
        "[[recipe.stages]]\npatch_size = 16\nshare = 0.5",
        '[[pretraining]]\nname = "coarse"\npatch_size = 16\n[pretraining.recipe]\n'
        "steps = 2\nbatch_size = 4\nlearning_rate = 1e-3",
    ],
)
def test_blocks_with_parameters_per_token_see_one_length(tmp_path: Path, change: str) -> None:
    project(tmp_path, mixer=("", ""))
    with (tmp_path / "own.toml").open("a") as study:
        study.write(change)
    refused = scaling("run-grid", "own.toml", "--device", "cpu", cwd=tmp_path)
    assert refused.returncode == 2
    assert "mixer-nano/8@16: the blocks of 'mixer' have parameters per token, and fit one length" in refused.stderr
