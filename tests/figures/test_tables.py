"""The paper's tables of any study: digits, marks, and what is missing."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from scaling import load_records
from scaling.errors import UsageError
from scaling.figures import FigureError
from scaling.figures.tables import TABLES, Table, paper_table, to_csv, to_json, to_latex, to_markdown
from scaling.figures.values import METRICS, Value
from scaling.records import boxes_and_masks
from tests.cli.command import scaling
from tests.figures.studies import detectors, extended, study

PRINTED = Path(__file__).parents[1] / "records" / "paper"


@pytest.fixture(scope="module")
def paper() -> pd.DataFrame:
    return load_records("paper")


def cells(table: Table, row: int) -> list[str]:
    return [cell.text for cell in table.rows[row].cells]


def best(table: Table) -> list[tuple[str, str]]:
    return [(row.cells[0].text, cell.text) for row in table.rows for cell in row.cells if cell.best]


@pytest.mark.parametrize("number", TABLES)
def test_the_papers_tables_are_printed_byte_for_byte(paper: pd.DataFrame, number: int) -> None:
    (printed,) = PRINTED.glob(f"table{number}_*.csv")
    assert to_csv(paper_table(paper, number)).encode() == printed.read_bytes()


def test_the_best_values_are_those_the_paper_has_bold(paper: pd.DataFrame) -> None:
    assert [value for _, value in best(paper_table(paper, 1))] == ["81.3", "82.9", "80.9", "82.4", "84.6"]
    assert best(paper_table(paper, 2)) == [("Adventurer-Tiny", "42.5"), ("Adventurer-Base", "46.8")]
    assert [value for _, value in best(paper_table(paper, 3))] == (
        ["48.7", "67.3", "52.4", "42.4", "64.3", "45.7", "50.3", "68.5", "54.0", "43.4", "66.0", "46.6"]
    )
    assert [value for _, value in best(paper_table(paper, 4))] == ["83.1", "84.6"]
    assert [value for _, value in best(paper_table(paper, 6))] == ["0.36", "1.76", "6.86", "27.45", "115.08"]


def test_changes_and_tokens_are_the_papers(paper: pd.DataFrame) -> None:
    assert cells(paper_table(paper, 5), 2) == ["DeiT-Base, 128×128 input", "1,024", "78.2 (+0.1)", "82.3 (+4.2)"]
    first = paper_table(paper, 1)
    assert [row.cells[-1].text for row in first.rows] == ["4,096", "4,096", "4,096", "16,384", "50,176"]
    assert cells(first, 1)[-2] == "-"
    assert "-: not reported." in first.notes


def test_losses_of_the_paper_are_shown_where_they_are_stated(paper: pd.DataFrame) -> None:
    table = paper_table(paper, 1, "test_loss")
    assert cells(table, 2)[:4] == ["Adventurer-Tiny", "224×224", "-", "0.855"]
    assert best(table)[2] == ("Adventurer-Tiny", "0.695")
    assert "Lower is better." in table.notes


def test_several_seeds_give_a_mean_and_its_spread() -> None:
    nano, micro = paper_table(study(), 1).rows
    assert [cell.text for cell in nano.cells] == [
        *("DeiT-Nano", "64×64", "44.6 ± 0.4", "52.6 ± 0.4", "56.8 ± 0.3 (1 diverged)", "256")
    ]
    assert [cell.text for cell in micro.cells][-2:] == ["oom", "64"]
    notes = paper_table(study(), 1).notes
    assert "Mean ± standard deviation over 2 to 3 seeds." in notes
    once = study().query("patch_size != 8 or size != 'nano' or seed == 0")
    assert "Mean ± standard deviation over 2 to 3 seeds; without ±: one seed." in paper_table(once, 1).notes
    assert {"oom: out of memory.", "diverged: the loss exploded or was no number."} <= set(notes)
    assert "±" not in to_markdown(paper_table(study(seeds=1), 1))


def test_a_csv_of_seeds_says_how_many_and_what_became_of_them() -> None:
    lines = to_csv(paper_table(study(), 4)).splitlines()
    assert lines[0] == (
        "architecture,size,input_size,patch_size,top1_accuracy_percent,"
        "top1_accuracy_percent_standard_deviation,seeds,status"
    )
    assert lines[3:7:3] == ["deit,nano,64,4,56.8,0.3,2,1 diverged", "deit,micro,64,4,,,,oom"]


def test_digits_follow_the_uncertainty() -> None:
    sampled = study("test_loss", seeds=1).assign(test_loss_standard_error=0.02)
    assert cells(paper_table(sampled, 4), 0)[2:4] == ["0.56", "0.48"]
    assert cells(paper_table(study("test_loss", seeds=1), 4), 0)[2:4] == ["0.558", "0.478"]
    assert Value(56.84, 1, 0.32, 2).text == "56.8 ± 0.3"


def test_hours_have_the_digits_they_are_known_to() -> None:
    table = study("test_loss", seeds=1)
    first, second, *_ = table.index
    table.loc[first, "gpu_hours_per_epoch"], table.loc[second, "gpu_hours_per_epoch"] = 1.2e-5, 1234567.0
    assert [cells(paper_table(table, 6), row)[-1] for row in range(2)] == ["0.000012", "1,234,567"]


def test_a_table_of_losses_has_the_lowest_bold() -> None:
    assert best(paper_table(study("test_loss", seeds=1), 4)) == [("DeiT-Micro", "0.472")]


def test_extended_tokens_against_smaller_patches() -> None:
    table = paper_table(extended(), 5)
    assert [cells(table, row)[1:] for row in range(3)] == [
        ["16", "44.6 ± 0.4", "44.6 ± 0.4"],
        ["64", "44.7 ± 0.4 (+0.1)", "52.6 ± 0.4 (+8.0)"],
        ["256", "44.7 ± 0.4 (+0.1)", "56.8 ± 0.3 (+12.2) (1 diverged)"],
    ]


def _slower(table: pd.DataFrame) -> pd.DataFrame:
    """Adventurer takes twice as long."""
    times = table["training_seconds"] * table["architecture"].map({"deit": 1, "adventurer": 2})
    return table.assign(training_seconds=times)


def test_costs_and_configurations_of_a_measured_study() -> None:
    table = paper_table(_slower(study(architectures=("deit", "adventurer"))), 6)
    assert table.columns[2:4] == ("DeiT-Nano MiB/image", "DeiT-Micro MiB/image")
    assert cells(table, 0)[:3] == ["16", "16", "0.0625"]
    assert cells(table, 0)[-1] == "54 ± 2"
    assert best(table) == []
    header = to_csv(table).splitlines()[0]
    assert "vit_nano_memory_megabytes_per_image" in header
    assert "adventurer_micro_training_milliseconds_per_image" in header
    assert cells(paper_table(study(), 7), 1) == ["DeiT-Micro", "64", "256", "4", "0.200"]


def test_latex_escapes_and_sets_the_best_in_bold() -> None:
    table = paper_table(pd.concat([study().assign(dataset="a_b"), study().assign(dataset="50%&c~^\\")]), 4)
    text = to_latex(table)
    assert r"a\_b" in text
    assert r"50\%\&c\textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    assert r"64$\times$64" in text
    assert re.search(r"\\textbf\{\d+\.\d \$\\pm\$ \d\.\d \(1 diverged\)\}", text)
    assert text.count(r"\addlinespace") == 1
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert r"Accuracy (\%)" in text


def test_markdown_is_a_table_with_bold_best_values(paper: pd.DataFrame) -> None:
    lines = to_markdown(paper_table(paper, 4)).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == 2 + 7
    assert sum("**" in row for row in rows) == 2
    assert Value("a|b").text in "a|b"


def test_json_has_all_digits_and_null_for_what_is_missing() -> None:
    values = json.loads(json.dumps(to_json(paper_table(study(), 4)), allow_nan=False))
    assert values["rows"][2]["top1_accuracy_percent"] == 56.8
    assert values["rows"][5]["top1_accuracy_percent"] is None
    assert values["rows"][5]["status"] == "oom"
    printed = to_json(paper_table(load_records("paper"), 3))["rows"]
    assert max(len(repr(value)) for row in printed for value in row.values() if isinstance(value, float)) == 4


def test_a_measured_detector_is_one_row_of_each_table() -> None:
    rows = boxes_and_masks(detectors(seeds=3))
    found = paper_table(rows, 3)
    assert [row.cells[1].text for row in found.rows] == ["32×32", "16×16", "8×8", "6×6", "5×5", "4×4"]
    assert [cell.text for cell in found.rows[2].cells[2:]] == [f"{ap}.0 ± 0.0" for ap in (52, 72, 42, 42, 62, 32)]
    assert [cell.text for cell in found.rows[5].cells[2:]] == ["oom"] * 6
    assert [len(paper_table(rows, number, y).rows) for number, y in ((1, "mask_ap"), (6, None), (7, None))] == [1, 6, 1]
    assert [row.cells[1].text for row in paper_table(rows, 1, "test_loss").rows] == [
        "detection",
        "instance-segmentation",
    ]


def test_what_a_study_lacks_is_said_with_the_cells_to_run() -> None:
    plain = study()
    with pytest.raises(FigureError, match=r"(?s)deit-nano/16@64\+extend=64.*run-grid STUDY --only '\*\+extend=\*'"):
        paper_table(plain, 5)
    with pytest.raises(FigureError, match=r"(?s)one model size.*grid.sizes.*run-grid STUDY --only '\*-micro/\*'"):
        paper_table(plain[plain["size"] == "nano"], 4)
    with pytest.raises(FigureError, match=r"(?s)one patch size.*grid.patch_sizes.*--only '\*/8@\*'"):
        paper_table(plain[plain["patch_size"] == 8], 4)
    with pytest.raises(FigureError, match="scaling run-grid digits-quick"):
        paper_table(plain, 2)
    with pytest.raises(FigureError, match="box_ap50"):
        paper_table(plain, 3)
    with pytest.raises(FigureError, match="no finished record has test_loss"):
        paper_table(plain, 1, "test_loss")
    with pytest.raises(FigureError, match="activation_bytes_per_image"):
        paper_table(plain.drop(columns=["activation_bytes_per_image", "training_seconds"]), 6)
    with pytest.raises(FigureError, match="no record has parameters"):
        paper_table(plain.drop(columns="parameters"), 7)
    starts = extended()
    with pytest.raises(FigureError, match=r"run-grid STUDY --only 'deit-nano/16@64'"):
        paper_table(starts[~starts["design"].eq("deit-nano/16@64")], 5)


def test_two_results_of_one_seed_are_not_averaged() -> None:
    twice = pd.concat([study(seeds=1), study(seeds=1).assign(accuracy=0.1, status="done")])
    with pytest.raises(FigureError, match="several records of one seed"):
        paper_table(twice, 1)
    both = pd.concat([study(seeds=1).assign(study="a"), study(seeds=1).assign(study="b", accuracy=0.1, status="done")])
    assert [row.cells[1].text for row in paper_table(both, 1).rows] == ["a", "a", "b", "b"]


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="no table 8"):
        paper_table(study(), 8)
    with pytest.raises(UsageError, match="no metric 'acuracy': did you mean 'accuracy'"):
        paper_table(study(), 1, "acuracy")
    with pytest.raises(UsageError, match="table 2 has its own columns"):
        paper_table(study(), 2, "accuracy")
    with pytest.raises(FigureError, match="no columns architecture"):
        paper_table(pd.DataFrame({"a": [1.0]}), 1)
    assert set(METRICS) >= {"accuracy", "mean_iou", "test_loss"}


def test_the_page_of_tables_shows_what_the_command_makes(paper: pd.DataFrame) -> None:
    page = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
    assert to_markdown(paper_table(paper, 5)) in page
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/tables.md", "exec"), {})
    assert all(f"\n| {number} | " in page for number in TABLES)


def test_the_command_prints_one_table_and_writes_all(tmp_path: Path) -> None:
    (printed,) = PRINTED.glob("table4_*.csv")
    assert scaling("table", "paper", "--number", "4", "--format", "csv").stdout == printed.read_text()
    everything = scaling("table", "paper", "--format", "csv", "--out", tmp_path)
    assert everything.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"table{number}.csv" for number in TABLES]
    records = tmp_path / "study.csv"
    study().to_csv(records, index=False)
    found = scaling("table", records, "--format", "json")
    assert [table["table"] for table in json.loads(found.stdout)] == [1, 4, 6, 7]
    assert found.stderr.count("left out: table") == 3
    missing = scaling("table", records, "--number", "5")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "--only '*+extend=*'" in missing.stderr
    for refused in (["--format", "csv"], ["--number", "x"], ["--y", "accuracy"], ["--number", "9"]):
        assert scaling("table", "paper", *refused).returncode == 2
