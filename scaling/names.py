"""What results are named after."""

from pathlib import Path


def source_name(source: Path) -> str:
    """Name of a run directory, which may contain dots, or of a table without its suffix."""
    path = source.resolve()
    return path.name if path.is_dir() else path.stem
