"""The report: what it says, that it is safe and whole, and that it works in a browser without a network."""

import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scaling.decisions import verdict
from scaling.errors import ScalingError
from scaling.figures import FIGURES, Material, figure3
from scaling.figures import report as report_package
from scaling.figures.report import report
from scaling.figures.report.charts import log_ticks
from scaling.figures.report.content import gather_content
from scaling.laws import FitResult, fit_groups
from scaling.outputs import OutputError
from scaling.records import RecordError, load_records
from tests.cli.command import scaling
from tests.laws.test_tables import table

MEBIBYTE = 2**20
VOID = {"meta", "input", "br", "img", "link", "hr"}
HOSTILE = "</script><script>alert('x')</script>"


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> str:
    return report("paper", tmp_path_factory.mktemp("paper") / "report.html").read_text(encoding="utf-8")


def written(records: pd.DataFrame, folder: Path) -> str:
    records.to_csv(folder / "records.csv", index=False)
    return report(folder / "records.csv", folder / "report.html").read_text(encoding="utf-8")


def chart_data(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def rows_of(page: str) -> int:
    return page.partition('<table id="every-record">')[2].partition("</table>")[0].count('<tr><th scope="row">')


class Page(HTMLParser):
    """Checks that elements close in the order in which they opened, and keeps what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._keep(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._keep(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _keep(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.addresses.append(value or "")
            elif name == "id":
                self.ids.append(value or "")


def test_the_question_and_the_verdict_come_first(paper: str) -> None:
    places = [paper.index(words) for words in ("Where should the next GPU-hour go", 'class="answer"', "<nav")]
    places += [paper.index(f'<section id="{name}"') for name in ("figures", "printed", "fits", "records", "published")]
    assert places == sorted(places)
    for comparison in figure3.comparisons_of(Material(load_records("paper"))):
        assert all(escape(sentence) in paper for sentence in verdict(comparison))
        assert all(escape(sentence) in paper for sentence in (*comparison.confounders, *comparison.notes))
        assert escape(comparison.noise) in paper


def test_every_record_fit_and_note_is_in_it(paper: str) -> None:
    records = load_records("paper")
    assert rows_of(paper) == len(records)
    assert all(escape(design) in paper for design in records["design"])
    assert 'class="status unreported"' in paper
    for fit in fit_groups(records):
        assert isinstance(fit, FitResult)
        assert f"{fit.parameters['A'].estimate:.4g}" in paper
        assert all(escape(note) in paper for note in fit.notes)


def test_every_figure_of_the_registry_is_drawn_or_named_with_the_reason(tmp_path: Path) -> None:
    page = written(table(), tmp_path)
    drawn = gather_content(tmp_path / "records.csv").drawn
    assert [each.name for each in drawn] == list(FIGURES)
    assert any(each.svg for each in drawn)
    assert any(each.problem for each in drawn)
    assert page.count('<div class="paper"><svg') == sum(each.svg is not None for each in drawn)
    assert all(escape(each.problem) in page for each in drawn if each.problem)


def test_the_page_is_balanced_and_refers_to_nothing_outside_itself(paper: str) -> None:
    found = Page(paper)
    assert not found.open
    assert len(found.ids) == len(set(found.ids))
    assert found.addresses
    inside = [address for address in found.addresses if not address.startswith("data:image/png;base64,")]
    assert all(address.startswith("#") and address[1:] in found.ids for address in inside)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", re.sub(r"<script>.*?</script>", "", paper, flags=re.DOTALL))
    assert "default-src 'none'" in paper  # the browser itself refuses what a library might ask for
    assert len(paper.encode()) < 5 * MEBIBYTE


def test_the_library_is_in_the_page_once(paper: str) -> None:
    assert paper.count("window.vegaEmbed=") == 1
    assert len(chart_data(paper)) == 3


def test_what_a_table_says_is_text(tmp_path: Path) -> None:
    records = table(**{"<b>note</b>": HOSTILE, "reference": HOSTILE})
    records["design"] = HOSTILE + records["design"]
    page = written(records, tmp_path)
    assert "alert" not in re.sub(re.escape(escape(HOSTILE)), "", page).replace("\\u003c/script>\\u003cscript>alert", "")
    assert "<b>note" not in page
    assert escape("<b>note</b>").lower() in page.lower()
    points = chart_data(page)["loss"]["data"]["points"]
    assert points[0]["design"].startswith(HOSTILE)
    assert not Page(page).open


def test_the_second_axis_is_the_loss_above_the_fitted_floor(tmp_path: Path) -> None:
    page = written(table(), tmp_path)
    points = chart_data(page)["loss"]["data"]["points"]
    floors = {"nano": 0.9, "micro": 0.7}
    assert len(points) == 10
    for point in points:
        assert point["above"] == pytest.approx(point["value"] - floors[point["curve"]], abs=1e-4)


def test_a_logarithmic_axis_has_ticks_on_both_sides_of_one() -> None:
    rows = [{"panel": 0, "value": value} for value in (0.7, 1.9, None)] + [{"panel": 1, "value": 0.0201}]
    rows += [{"panel": 1, "value": 0.0203, "low": 0.02}]
    wide, narrow = json.loads(log_ticks("points", rows, "value", "low").expr.partition("[(data")[0])
    assert sum(1 < tick <= 1.9 for tick in wide) >= 2
    assert sum(0.7 <= tick < 1 for tick in wide) >= 1
    assert sum(0.02 <= tick <= 0.0203 for tick in narrow) >= 3


def test_laws_are_drawn_within_their_bands_and_where_an_axis_has_a_place(paper: str) -> None:
    laws = chart_data(paper)["loss"]["data"]["laws"]
    assert laws
    for row in laws:
        for name in ("value", "above"):
            assert 0 < row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_records_that_say_nothing_still_give_a_page(tmp_path: Path) -> None:
    page = written(pd.DataFrame({"patch_size": [4], "colour": ["red"]}), tmp_path)
    assert "These records cannot say." in page
    assert "No law could be fitted" in page
    assert rows_of(page) == 1
    assert not Page(page).open


def test_lost_records_are_in_the_table_and_no_points(tmp_path: Path) -> None:
    records = table()
    records.loc[0, "status"] = "oom"  # with a loss, which is not that of a finished training
    page = written(records, tmp_path)
    assert page.count('class="status oom"') == 1
    assert len(chart_data(page)["loss"]["data"]["points"]) == 9


def test_reproducing_names_no_folder(tmp_path: Path) -> None:
    page = written(table(commit="abc123", finished_at="2026-01-02T03:04:05+00:00"), tmp_path)
    assert str(tmp_path) not in page
    assert "scaling report records.csv" in page
    assert "Records finished 2026-01-02 (UTC)." in page
    assert "abc123" in page


def test_only_records_that_cannot_be_read_or_a_place_that_cannot_be_written_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such run directory"):
        report(tmp_path / "none.csv")
    (tmp_path / "file").write_text("")
    table().head(3).to_csv(tmp_path / "records.csv", index=False)
    with pytest.raises(OutputError, match="cannot be written"):
        report(tmp_path / "records.csv", tmp_path / "file" / "report.html")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_package, "find_spec", lambda _: None)
    with pytest.raises(ScalingError, match=r"^a report needs altair: pip install 'patch-scaling\[report\]'$"):
        report("paper")


def test_the_command_writes_where_others_do(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "mine.v2.csv", index=False)
    found = scaling("report", "mine.v2.csv", cwd=tmp_path)
    assert found.stdout == "analysis/mine.v2/report.html\n"
    assert (tmp_path / "analysis" / "mine.v2" / "report.html").is_file()
    failed = scaling("report", "none.csv", cwd=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: none.csv: no such")


def many_records() -> pd.DataFrame:
    """2,000 records in 100 curves."""
    cells = [
        {"design": f"{architecture}-{size}/{patch}@{side}", "architecture": architecture, "size": size,
         "patch_size": patch, "input_size": side, "seed": seed, "status": "done", "task": "classification",
         "dataset": "digits", "parameters": 10**width, "sequence_length": (side // patch) ** 2,
         "training_flops_per_image": 10**width * (side / patch) ** 2,
         "test_loss": 0.6 + 0.02 * patch**0.9 * 1.1**-width * (side / 64) ** -0.3 * (1 + 0.01 * seed)}
        for architecture in ("deit", "adventurer")
        for width, size in enumerate(("nano", "micro", "tiny", "small", "base"), 6)
        for side in range(64, 384, 32)
        for patch in (16, 8, 4, 2, 1)
        for seed in range(4)
    ]  # fmt: skip
    return pd.DataFrame(cells)


@pytest.mark.slow
def test_a_page_of_2000_records_holds_them_all_below_5_megabytes(tmp_path: Path) -> None:
    page = written(many_records(), tmp_path)
    assert rows_of(page) == 2000
    assert len(chart_data(page)["loss"]["data"]["points"]) == 2000
    assert len(page.encode()) < 5_000_000


BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(BROWSERS)} is installed")
WAIT = "await new Promise(resolve => setTimeout(resolve, 300));"


def in_page(page: str, folder: Path, code: str) -> str:
    """What a function body returns in the loaded page, without a network; fails on any message of the console."""
    script = f"""<script>addEventListener("load", async () => {{ try {{ {WAIT}
        const found = await (async () => {{ {code} }})();
        document.title = "found:" + JSON.stringify(found); }} catch (error) {{ document.title = "failed:" + error; }}
    }});</script></body>"""
    copy = folder / "copy.html"
    copy.write_text(script.join(page.rsplit("</body>", 1)), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=390,800", "--virtual-time-budget=20000"]
    command += ["--enable-logging=stderr", "--dump-dom", copy.as_uri()]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=True)
    assert not re.findall(r".*(?:CONSOLE|Uncaught).*", done.stderr)
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)[:1]
    assert title.startswith("found:"), title
    return json.loads(unescape(title.removeprefix("found:")))


@pytest.mark.slow
@in_browser
def test_the_page_draws_without_a_network_and_fits_a_phone(paper: str, tmp_path: Path) -> None:
    code = """const root = document.documentElement;
        return [document.querySelectorAll(".plot svg").length, root.scrollWidth <= root.clientWidth,
        performance.getEntriesByType("resource").length,
        document.querySelectorAll("#chart-loss .plot svg path").length > 5]"""
    assert in_page(paper, tmp_path, code) == [3, True, 0, True]


@pytest.mark.slow
@in_browser
def test_the_controls_change_what_is_drawn(paper: str, tmp_path: Path) -> None:
    code = f"""
        const figures = ["loss", "cost"].map((name) => document.getElementById("chart-" + name));
        const shown = () => figures.map((each) => each.querySelector(".plot svg").textContent).join("|");
        const seen = [shown()];
        for (const figure of figures) {{
          figure.querySelectorAll("input[type=radio]")[1].click(); {WAIT}
          seen.push(shown());
          const select = figure.querySelector("select");
          select.value = "1"; select.dispatchEvent(new Event("change", {{ bubbles: true }})); {WAIT}
          seen.push(shown());
        }}
        return seen;"""
    seen = in_page(paper, tmp_path, code)
    assert len(set(seen)) == 5
    assert "fitted floor E" not in seen[0]
    assert "fitted floor E" in seen[1]
    assert "Training FLOPs" in seen[2]
    assert "Memory" in seen[3]


@pytest.mark.slow
@in_browser
def test_the_filter_shows_rows_that_contain_every_word(paper: str, tmp_path: Path) -> None:
    code = """const filter = document.getElementById("filter");
        filter.value = "DEIT-base unreported"; filter.dispatchEvent(new Event("input"));
        const rows = [...document.querySelectorAll("#every-record tbody tr")].filter((row) => !row.hidden);
        return [rows.length, rows.every((row) => row.textContent.includes("deit-base")),
                document.getElementById("shown").value]"""
    records = load_records("paper")
    expected = int((records["design"].str.startswith("deit-base") & records["status"].eq("unreported")).sum())
    assert in_page(paper, tmp_path, code) == [expected, True, f"{expected} of {len(records)}"]
