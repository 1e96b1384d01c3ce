"""What the documentation shows is true of the code."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from scaling import compare, estimate
from scaling.decisions import verdict
from scaling.design import (
    DATA_SECTIONS,
    HEADS_OF_TASK,
    Detector,
    DigitsData,
    ImageFolderData,
    Measure,
    PatchStage,
    Pretraining,
    Recipe,
    Resources,
    build_study,
    builtin_recipes,
    parse_study,
)
from scaling.figures import FIGURES
from scaling.laws import LAWS
from scaling.records import Record
from tests.cli.command import scaling
from tests.conftest import study_values

ROOT = Path(__file__).parents[1]


def test_the_example_study_is_a_study_and_shows_every_key() -> None:
    texts = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "studies.md").read_text(), re.DOTALL)
    assert [len(parse_study(text, "docs/studies.md").cells()) for text in texts] == [21, 2, 4, 2]
    alternatives = {"images", "warmup_images"}  # in comments beside steps
    sections = (DigitsData, ImageFolderData, Recipe, Detector, Measure, Pretraining, Resources)
    keys = {key for section in sections for key in section.model_fields} - alternatives - {"recipe", "detector", "data"}
    assert re.search(r"(?m)^\[pretraining.recipe\]", texts[0])
    assert re.search(r"(?m)^\[pretraining.data\]", texts[0])
    assert re.search(r"(?m)^\[recipe.detector\]", texts[3])
    assert re.search(r"(?m)^\[\[recipe.by_size\]\]", texts[0])
    assert keys <= set(re.findall(r"(?m)^(\w+) =", "".join(texts)))


def test_the_page_of_data_shows_every_data_set_and_its_keys() -> None:
    page = "".join((ROOT / "docs" / name).read_text() for name in ("data.md", "dense_data.md"))
    shown = [
        tomllib.loads(text)["data"] for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[data]" in text
    ]
    assert {values["name"] for values in shown} == {*DATA_SECTIONS} - {"digits"}
    for values in shown:
        assert build_study(study_values(data=values)).data.name == values["name"]
        optional = {"task", "max_corrupt_share", *({"classes", "train_images"} - {*values})}
        assert {*values} | optional == {*DATA_SECTIONS[values["name"]].model_fields}


def test_the_example_schedule_is_one() -> None:
    page = (ROOT / "docs" / "schedules.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    values = study_values(data__canvas=24, grid__input_sizes=[24], grid__patch_sizes=[4]) | tomllib.loads(text)
    (cell,) = build_study(values).cells()
    assert [(stage.design.patch_size, stage.steps) for stage in cell.stages] == [(12, 960), (6, 1440), (4, 2400)]
    assert set(re.findall(r"(?m)^(\w+) =", text.partition("stages")[2])) == set(PatchStage.model_fields)


def test_the_examples_of_stages_are_what_the_page_says() -> None:
    page = (ROOT / "docs" / "stages.md").read_text()
    stages, classes, by_size, named = map(tomllib.loads, re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    values = study_values(data__canvas=24, grid__input_sizes=[24], grid__patch_sizes=[3, 2])
    study = build_study(values | stages)
    assert [str(cell.design) for cell in study.all_cells()[:2]] == ["deit-nano/6@12+linear", "deit-nano/6@24+linear"]
    assert len(study.all_cells()) == 4
    heads = build_study(values | classes | {"grid": values["grid"] | {"heads": ["linear", "upernet"]}}).all_cells()
    assert [cell.data.task for cell in heads] == ["classification"] * 2 + ["segmentation"] * 4
    sizes = build_study(values | by_size | {"grid": values["grid"] | {"sizes": ["nano", "micro"]}}).cells()
    assert [cell.recipe.drop_path for cell in sizes] == [0.0, 0.0, 0.1, 0.1]
    own = named["recipe"] | {"images": 1_000_000, "warmup_images": 0}
    assert build_study(values | {"recipe": own}).recipe.batch_size == 256
    known = {name for recipe in builtin_recipes().values() for name in recipe.named_stages()}
    assert set(re.findall(r"(?m)^\| `([\w-]+)` \|", page)) == known


def test_the_examples_of_dense_tasks_are_studies_and_their_heads_are_listed() -> None:
    page = (ROOT / "docs" / "dense.md").read_text()
    segmentation, detection = (
        parse_study(text, "docs/dense.md") for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    )
    tasks = [cell.data.task for cell in segmentation.all_cells()]
    assert tasks == ["classification"] * 2 + ["segmentation"] * 4
    assert {cell.data.task for cell in detection.all_cells()} == {"detection"}
    listed = {row[0]: re.findall(r"`(\w+)`", row[1]) for row in re.findall(r"(?m)^\| `(\w+)` \| (.*?) \|", page)}
    dense = {task: list(heads) for task, heads in HEADS_OF_TASK.items() if heads}
    assert {task: heads for task, heads in listed.items() if task in HEADS_OF_TASK} == dense


def test_the_page_of_figures_names_them_all() -> None:
    page = (ROOT / "docs" / "figures.md").read_text()
    assert re.findall(r"(?m)^\| `([\w-]+)` \|", page) == list(FIGURES)


def test_the_example_estimates_are_those_of_the_command() -> None:
    page, readme = ((ROOT / name).read_text() for name in ("docs/estimating.md", "README.md"))
    shown = scaling("estimate", "{deit,adventurer}-base/{16,8,4,2,1}@224", "--precision", "fp16").stdout
    rows = [line.split() for line in shown.splitlines() if "-base/" in line]
    assert len(rows) == 10
    assert all(row in [line.split() for line in page.splitlines()] for row in rows)
    assert sum(row in [line.split() for line in readme.splitlines()] for row in rows) == 6


def test_the_example_fit_is_that_of_the_command(tmp_path: Path) -> None:
    shown = scaling("fit", ROOT / "runs" / "digits-quick", cwd=tmp_path).stdout
    readme = [line.split() for line in (ROOT / "README.md").read_text().splitlines()]
    lines = [line.split() for line in shown.splitlines() if line.strip()]
    assert len(lines) == 11
    assert all(line in readme for line in lines if not line[0].startswith("─"))


def test_the_example_plan_is_that_of_the_command() -> None:
    shown = [
        line.rstrip() for line in scaling("plan", "--budget", "5000 gpu-hours", "--gpus", "64").stdout.splitlines()
    ]
    pages = [(ROOT / name).read_text().splitlines() for name in ("docs/planning.md", "README.md")]
    sentences = [line for line in shown if line.startswith("* ")]
    assert len(sentences) >= 3
    assert all(line in page for page in pages for line in sentences)
    assert all(line in pages[0] for line in shown if "@" in line)


COMMANDS_OF_PLANS = re.findall(
    r"(?m)^scaling plan (.*?)(?: +#.*)?$",
    "".join((ROOT / page).read_text() for page in ("README.md", "docs/planning.md", "docs/planning-path.md")).replace(
        "\\\n", ""
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in dict.fromkeys(COMMANDS_OF_PLANS) if "my-grid" not in line])
def test_the_plans_shown_have_an_answer(line: str, tmp_path: Path) -> None:
    """All but those of a file of the reader's own; where the page saved a plan before, so is one here."""
    if "--against" in line:
        saved = scaling("plan", "--budget", "5000 gpu-hours", "--gpus", "64", "--save", "plan.json", cwd=tmp_path)
        assert saved.returncode == 0, saved.stderr
    (tmp_path / "runs").symlink_to(ROOT / "runs")
    result = scaling("plan", *shlex.split(line), cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_pages_of_planning_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("planning.md", "planning-path.md"):
        for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL):
            exec(compile(code, name, "exec"), {})
    assert (tmp_path / "path.pdf").is_file()


def test_the_example_device_is_one_and_python_runs() -> None:
    page = (ROOT / "docs" / "estimating.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    values = study_values() | tomllib.loads(text)
    assert build_study(values).hardware["t4"].node_size == 4
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/estimating.md", "exec"), {})


def test_the_page_of_models_runs_and_its_sizes_are_the_estimator_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/models.md", "exec"), {})
    rows = re.findall(r"(?m)^\| (\w+) \| (\d+), (\d+) \| ([\d,]{7,}) \| (\d+), (\d+) \| ([\d,]{7,}) \|$", page)
    assert len(rows) == 5
    for size, *numbers in rows:
        for architecture, (width, depth, parameters) in (("deit", numbers[:3]), ("adventurer", numbers[3:])):
            found = estimate(f"{architecture}-{size}/16@224")
            assert (found.design.shape.width, found.design.shape.depth) == (int(width), int(depth))
            assert f"{found.cost.parameters.total:,}" == parameters


def test_every_key_of_an_estimate_is_documented() -> None:
    page = (ROOT / "docs" / "estimating.md").read_text()
    assert {name for name in estimate("deit-tiny/16@224").to_json() if name not in page} <= SELF_EXPLAINING_KEYS


SELF_EXPLAINING_KEYS = {
    *("architecture", "size", "patch_size", "input_size", "input_height", "input_width", "sequence_length", "gpus"),
    *(
        "usable_bytes_per_gpu",
        "train_images",
        "accumulation",
        "ema",
        "parameters_without_positions",
        "hardware",
        "misfit",
    ),
    *("parameters_without_embedding_and_head", "images_per_second_per_gpu", "images_per_second_per_gpu_low"),
    *("images_per_second_per_gpu_high", "gpu_hours_per_epoch_low", "gpu_hours_per_epoch_high", "constants"),
}


def test_every_field_of_a_record_is_documented() -> None:
    page = (ROOT / "docs" / "records.md").read_text()
    assert {name for name in Record.model_fields if name not in page} <= SELF_EXPLAINING


SELF_EXPLAINING = {
    *("schema_version", "cell", "study", "design", "architecture", "size", "patch_size", "input_size", "head", "seed"),
    *("sequence_length", "task", "dataset", "source", "error", "test_images", "steps", "batch_size", "finished_at"),
    *("micro_batch_size", "images_seen", "images_per_second", "evaluation_seconds", "attention", "precision", "recipe"),
    *("data", "parameters_without_positions", "parameters_without_embedding_and_head"),
}


def test_the_page_of_fits_runs_and_lists_every_law(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "fitting.md").read_text()
    monkeypatch.chdir(ROOT)
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/fitting.md", "exec"), {})
    listed = dict(re.findall(r"(?m)^\| `([\w-]+)` \| `(.*?)`", page))
    assert set(listed) == set(LAWS)
    shown = {name: law.formula for name, law in LAWS.items() if name != "data-limited"}
    assert {name: listed[name] for name in shown} == shown


def test_the_page_of_comparisons_runs_and_its_verdict_is_the_command_s(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "comparing.md").read_text()
    said = re.findall(r"(?m)^\* (.*)$", page)
    assert said == verdict(compare("paper"))[: len(said)]
    assert said == re.findall(r"(?m)^\* (.*)$", (ROOT / "README.md").read_text())[: len(said)]
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/comparing.md", "exec"), {})
    assert said[0] in capsys.readouterr().out


TRAINING = ("run-grid", "measure")


@pytest.mark.parametrize("name", ["laws.md", "costs.md", "paper.md", "budget.md"])
def test_what_a_page_shows_beneath_its_commands_is_what_they_print(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands in their order, but those that train; each line shown is among theirs, however wide columns are."""
    page = (ROOT / "docs" / name).read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(ROOT / "runs")
    for kind, text, shown in re.findall(r"```(bash|python)\n(.*?)```(?:\n\n```\n(.*?)```)?", page, re.DOTALL):
        if kind == "python":
            exec(compile(text, name, "exec"), {})
            continue
        lines = text.replace("\\\n", "").splitlines()
        commands = [shlex.split(line, comments=True)[1:] for line in lines]
        if shown and not any(command[0] in TRAINING for command in commands):
            printed = ""
            for command in commands:
                result = scaling(*command)
                assert result.returncode == 0, result.stderr
                printed += result.stdout + result.stderr
            told = [line.split() for line in printed.splitlines()]
            assert [line for line in shown.splitlines() if line.split() not in told] == []


def _anchors(page: str) -> set[str]:
    """Of the headings of a page, as code hosts make them."""
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    titles = re.findall(r"(?m)^#+ (.*)$", prose)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\((?!\w+:)([^)]+)\)", path.read_text()):
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text())):
            broken.append(link)
    assert broken == []
