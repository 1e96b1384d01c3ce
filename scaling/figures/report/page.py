"""The page: its template filled with the parts."""

import json
import shlex
from html import escape
from importlib import metadata, resources
from string import Template

import altair as alt
import vl_convert

from scaling.figures.report.charts import Chart
from scaling.figures.report.content import Content, Drawing
from scaling.figures.report.cost_chart import cost_chart
from scaling.figures.report.heat_map import heat_map
from scaling.figures.report.loss_chart import loss_chart
from scaling.figures.report.tables import bullets, checklist_list, fits_table, records_table
from scaling.figures.report.verdict_part import verdict_part
from scaling.figures.report.words import capital, counted
from scaling.records import count_records

QUESTION = "Where should the next GPU-hour go: a smaller patch, a larger model, or a larger input?"


def page(content: Content) -> str:
    """The whole page as text."""
    charts = [
        chart
        for chart in (loss_chart(content), cost_chart(content.comparisons), heat_map(content.comparisons))
        if chart
    ]
    return Template(_file("page.html")).substitute(
        title=escape(f"Scaling report: {content.source}"),
        source=escape(content.source),
        question=QUESTION,
        summary=escape(_summary(content)),
        verdict=verdict_part(content.comparisons, content.incomparable),
        charts="\n".join(_figure(chart) for chart in charts)
        or "<p>No record has what an interactive figure shows.</p>",
        drawings="\n".join(_drawing(drawn) for drawn in content.drawn if drawn.svg),
        left_out=_left_out(content),
        fits=_fits(content),
        checklist=checklist_list(content),
        records=records_table(content.table),
        count=len(content.table),
        reproduce=_reproduce(content),
        published=_published(content),
        style=_file("page.css"),
        script=_file("page.js"),
        library=_library() if charts else "",
        data=_inert(
            json.dumps({chart.name: chart.to_json() for chart in charts}, separators=(",", ":"), allow_nan=False)
        ),
    )


def _file(name: str) -> str:
    return (resources.files("scaling.figures.report") / name).read_text(encoding="utf-8")


def _library() -> str:
    """The script that draws all charts, of the version that the specifications are for."""
    wanted = alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2]
    # Its declaration forgets that the first argument may be left out.
    script = vl_convert.javascript_bundle(vl_version=".".join(wanted))  # pyright: ignore[reportCallIssue]
    return script.replace("</script", "<\\/script")


def _inert(text: str) -> str:
    """JSON that cannot end the script it stands in."""
    return text.replace("<", "\\u003c")


def _summary(content: Content) -> str:
    table = content.table
    finished = table[table["status"].eq("done")] if "status" in table else table
    parts = [f"{counted(count_records(table), 'record')} ({count_records(finished):,} done)"]
    parts += [counted(table["design"].nunique(), "design")] if "design" in table else []
    return ", ".join([*parts, counted(len(content.fitted), "fitted law")])


def _figure(chart: Chart) -> str:
    """Place of a chart, with real controls; a choice of one is no choice."""
    panels = "".join(f'<option value="{place}">{escape(name)}</option>' for place, name in enumerate(chart.panels))
    hidden = " hidden" if len(chart.panels) < 2 else ""
    views = "".join(
        f'<label><input type="radio" name="{chart.name}-view" value="{place}"{" checked" if not place else ""}>'
        f"<span>{escape(label)}</span></label>"
        for place, label in enumerate(chart.views)
    )
    choice = f'<fieldset><legend>{escape(chart.view_question)}</legend><div class="segments">{views}</div></fieldset>'
    return f"""<figure class="chart" id="chart-{chart.name}" data-chart="{chart.name}">
<h3>{escape(chart.title)}</h3>
<div class="controls"><label class="panel"{hidden}><span>{escape(chart.panel_question)}</span>
<select name="{chart.name}-panel">{panels}</select></label>{choice if len(chart.views) > 1 else ""}</div>
<p class="printed" aria-live="polite"></p>
<ul class="legend" aria-label="Legend"></ul>
<div class="plot" role="img" aria-label="{escape(chart.title)}. Its numbers are in the tables below."></div>
<figcaption>{escape(chart.caption)}</figcaption>
</figure>"""


def _drawing(drawn: Drawing) -> str:
    title = capital(drawn.title)
    name = f"Figure {drawn.name}" if drawn.name.isdigit() else drawn.name.replace("-", " ").capitalize()
    return f"""<figure class="drawing"><div class="scroll" role="img" aria-label="{escape(title)}" tabindex="0">
<div class="paper">{drawn.svg}</div></div>
<figcaption><strong>{escape(name)}.</strong> {escape(title)}.</figcaption></figure>"""


def _left_out(content: Content) -> str:
    lines = [f"{drawn.name} ({drawn.title}): {drawn.problem}" for drawn in content.drawn if drawn.problem]
    return f"<p>Figures that these records cannot fill:</p>{bullets(lines)}" if lines else ""


def _fits(content: Content) -> str:
    problem = f"<p>No law could be fitted: {escape(content.unfitted)}</p>" if content.unfitted else ""
    return problem + fits_table(content)


def _reproduce(content: Content) -> str:
    """Commands, versions, commits and dates; nothing of the machine."""
    version, source = metadata.version("patch-scaling"), shlex.quote(content.source)
    commands = [f"pip install 'patch-scaling[report]=={version}'"]
    if content.is_run:
        commands.append(f"scaling run-grid {shlex.join(_known(content, 'study'))}  # fills {source}")
    commands += [f"scaling {command} {source}" for command in ("compare", "fit")]
    commands += [f"scaling plot {source} --figure all", f"scaling report {source}"]
    dates = sorted(day[:10] for day in _known(content, "finished_at"))
    facts = [f"Page made by scaling {version}."]
    facts += [f"Records finished {' to '.join(dict.fromkeys((dates[0], dates[-1])))} (UTC)."] if dates else []
    facts += [f"Commit of the records: {', '.join(commits)}." for commits in [_known(content, "commit")] if commits]
    libraries = [name for name in map(str, content.table) if name.startswith("versions.")]
    used = [f"{name.removeprefix('versions.')} {', '.join(_known(content, name))}" for name in libraries]
    facts += [f"Trained with {'; '.join(used)}."] if used else []
    return f'<pre class="scroll" tabindex="0"><code>{escape(chr(10).join(commands))}</code></pre>{bullets(facts)}'


def _known(content: Content, column: str) -> list[str]:
    """Distinct values of a column, in their order."""
    return list(dict.fromkeys(content.table[column].dropna().astype(str))) if column in content.table else []


def _published(content: Content) -> str:
    """Where published records are from, and what to know of them."""
    if not content.studies:
        return ""
    blocks = "\n".join(
        f"<h3>{escape(study.title)}</h3><p>{escape(study.authors)}. {escape(study.venue)}.</p>"
        f"{bullets(text for _, text in study.notes)}"
        for study in content.studies
    )
    heading = '<h2 id="h-published">About the published records</h2>'
    return f'<section id="published" aria-labelledby="h-published">{heading}{blocks}</section>'
