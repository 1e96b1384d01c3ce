"""The index of the benchmarks is complete, and `make benchmarks` runs what it says."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
INDEX = (ROOT / "benchmarks" / "README.md").read_text()
LINK = r"(?:\[\w+\]\(results/(\w+)\.md\)|no page yet)"
ROWS = re.findall(rf"(?m)^\| ([^|]+) \| {LINK}: `python -m benchmarks\.(\w+)`", INDEX)


def test_the_index_has_every_page_with_the_command_that_writes_it() -> None:
    pages = {path.stem.removesuffix("_cuda") for path in (ROOT / "benchmarks" / "results").glob("*.md")}
    assert {page for _, page, _ in ROWS if page} == pages
    assert all(page in (module, "") for _, page, module in ROWS)
    for *_, module in ROWS:
        assert f'"{module}"' in (ROOT / "benchmarks" / f"{module}.py").read_text()


def test_make_runs_all_that_the_index_does_not_mark() -> None:
    rule = (ROOT / "Makefile").read_text().split("\nbenchmarks:")[1].split("\n\n")[0]
    made = re.findall(r"-m benchmarks\.(\w+)", rule)
    assert sorted(made) == sorted(module for area, *_, module in ROWS if not area.endswith("*"))
