"""Architectures of the user's own: found by name in ./architectures, and every way in which that goes wrong."""

import json
import shutil
from pathlib import Path

import pytest
import tomli_w

from scaling.design.plugins import is_same_code
from tests.cli.command import scaling, scaling_afresh
from tests.conftest import study_values

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "architectures" / "mixer.py"
DESIGN = "mixer-nano/8@32"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the page's architecture."""
    (tmp_path / "architectures").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "architectures")
    return tmp_path


def rewrite(project: Path, *changes: tuple[str, str]) -> None:
    """Replace words of the architecture."""
    text = EXAMPLE.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (project / "architectures" / "mixer.py").write_text(text)


def test_a_file_is_found_by_name_and_by_the_star(project: Path) -> None:
    (project / "architectures" / "_notes.py").write_text("raise RuntimeError('is no architecture, and is not run')")
    known = json.loads(scaling("estimate", "*-base/16@224", "--format", "json", cwd=project).stdout)
    found = {row["design"]: row["parameters"] for row in known}
    assert list(found) == ["deit-base/16@224", "adventurer-base/16@224", "mixer-base/16@224"]
    assert round(found["mixer-base/16@224"], -6) == 60_000_000  # Table 1 of the Mixer paper: 59M without positions


def test_no_torch_is_imported_to_estimate(project: Path) -> None:
    asserted = "def register():\n    import sys\n    assert 'torch' not in sys.modules"
    rewrite(project, ("def register():", asserted))
    result = scaling_afresh("estimate", DESIGN, cwd=project)
    assert result.returncode == 0, result.stderr


def test_modules_beside_the_folder_can_be_imported(project: Path) -> None:
    (project / "widths.py").write_text("FACTOR = 2\n")
    imported = "from widths import FACTOR\nfrom scaling.cost"
    rewrite(project, ("4 * width", "FACTOR * width"), ("from scaling.cost", imported))
    rows = json.loads(scaling("estimate", DESIGN, "--format", "json", cwd=project).stdout)
    assert rows[0]["parameters"] < 66_987  # of an MLP twice as wide


def test_settings_by_size_take_its_names(project: Path) -> None:
    rewrite(project, ('"nano":', '"pico":'))
    sized = [{"sizes": ["pico"], "steps": 3}]
    values = study_values(grid__architectures=["mixer"], grid__sizes=["pico"], recipe__by_size=sized)
    (project / "own.toml").write_text(tomli_w.dumps(values))
    result = scaling("estimate", "--study", "own.toml", cwd=project)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("def register():", "def registers():")], "architectures/mixer.py: there is no function register()"),
        ([('("mixer",', '("blender",')], "architectures/mixer.py registers 'blender'; its name must be 'mixer'"),
        ([('("mixer",', '("deit",')], "architectures/mixer.py: architecture 'deit' is built in; register yours under"),
        ([("MixerCosts()", "None")], "does not load: UsageError: mixer: NoneType is not a Backbone"),
        ([("shape_of(32, 3)", "shape_of(32)")], "does not load: TypeError: shape_of() missing 1 required positional"),
        ([("def shape_of(", "def shape_of((")], "does not load: SyntaxError:"),
        ([("import Architecture,", "import Architectur,")], "(line 4)"),
        ([("def block_flops", "def block_flop")], "abstract"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_a_line(
    project: Path, changes: list[tuple[str, str]], message: str
) -> None:
    rewrite(project, *changes)
    result = scaling("estimate", DESIGN, cwd=project)
    assert result.returncode == 2
    assert message in result.stderr
    assert "mixer.py" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_that_is_missing_is_named(project: Path) -> None:
    result = scaling("estimate", "mixr-nano/8@32", cwd=project)
    assert result.returncode == 2
    assert "unknown architecture 'mixr'" in result.stderr
    assert "one of your own is read from architectures/mixr.py here" in result.stderr


def test_a_cost_term_that_fails_is_of_the_file(project: Path) -> None:
    rewrite(project, ("mlp=terms.mlp_bytes(shape, execution)", "mlp=terms.mlp_bytes(shape)"))
    result = scaling("estimate", DESIGN, cwd=project)
    assert result.returncode == 2
    assert "architectures/mixer.py" in result.stderr
    assert "mlp_bytes() missing 1 required positional argument" in result.stderr
    assert "Traceback" not in result.stderr


def test_comments_and_spaces_are_no_other_code() -> None:
    text = EXAMPLE.read_text()
    assert is_same_code(text, text.replace("    sizes =", "    # by name\n    sizes  ="))
    assert not is_same_code(text, text.replace("4 * width", "3 * width"))
    assert not is_same_code(text, "def (")
