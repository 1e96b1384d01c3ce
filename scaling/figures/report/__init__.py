"""A report of records: one HTML page with the verdict, figures, fits and every record, readable without a network."""

from importlib.util import find_spec
from pathlib import Path

from scaling.errors import ScalingError
from scaling.names import source_name
from scaling.outputs import check_output, write_output

NEEDED = ("altair", "vl_convert")


def report(source: str | Path, out: str | Path | None = None) -> Path:
    """Write the report of a source of records.

    Args:
        source: what `load_records` takes.
        out: the HTML file; by default analysis/NAME/report.html.

    Returns:
        The file that was written.

    Raises:
        RecordError: if the records cannot be read.
        OutputError: if the file cannot be written.
        ScalingError: if a package of the extra 'report' is missing.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ScalingError(f"a report needs {missing[0]}: pip install 'patch-scaling[report]'")
    from scaling.figures.report.content import gather_content
    from scaling.figures.report.page import page

    path = Path(out) if out is not None else Path("analysis") / source_name(Path(source)) / "report.html"
    check_output(path)
    text = page(gather_content(source))
    write_output(path, text)
    return path


__all__ = ["report"]
