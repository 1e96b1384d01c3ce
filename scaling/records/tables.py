"""Records as a table: from a run directory, a CSV or a Parquet file, and back."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.cost import cost_of_cell
from scaling.outputs import check_output, output_file
from scaling.records.detectors import boxes_and_masks
from scaling.records.published import published_studies, published_study
from scaling.records.schema import Record
from scaling.records.sources import check_suffix, missing, run_at
from scaling.records.store import RecordError

if TYPE_CHECKING:
    import pandas as pd

RATES = ("accuracy", "accuracy_top5", "calibration_error", "mean_iou", "pixel_accuracy", "box_ap", "mask_ap")
NUMBERS = (
    *("patch_size", "input_size", "sequence_length", "extended_length", "test_loss", *RATES),
    *("parameters", "training_flops_per_image", "images_seen", "activation_bytes_per_image", "training_seconds"),
    *("peak_memory_bytes_per_image", "gpu_hours", "gpu_hours_per_epoch"),
)
"""Columns that figures, tables and comparisons compute with."""
STAGE_COLUMNS = ("stage", "started_from_cell")
SUMMED = ("images_seen", "training_seconds", "gpu_hours")
EARLIER = tuple(f"earlier_{name}" for name in (*SUMMED, "training_flops"))


def load_records(source: str | Path, each_stage: bool = False) -> "pd.DataFrame":
    """One row per record, in the order of the study; failed cells included, see the column `status`.

    A detector's record gives two rows, one for each of its tasks: see `boxes_and_masks`.

    Args:
        source: a run directory, a CSV or Parquet file with named columns, or the name of a study of published
            records that ships, such as 'paper'.
        each_stage: every record as it is: a row for every pretraining too, and of every row its own costs; otherwise
            a row is one whole training, see `whole_trainings`.

    Raises:
        SourceError: if there is no such source.
        RecordError: if a record in it is broken.
    """
    table = _read_table(source)
    return table if each_stage else boxes_and_masks(whole_trainings(table, str(source)))


def load_all(sources: Sequence[str | Path], each_stage: bool = False) -> "pd.DataFrame":
    """The records of one source or several, one beneath the other; see `load_records`."""
    import pandas as pd

    tables = [load_records(source, each_stage) for source in sources]
    # As objects: columns that a table has no value in would decide the type of the others'.
    return tables[0] if len(tables) == 1 else pd.concat([table.astype(object) for table in tables]).infer_objects()


def whole_trainings(table: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """The rows of a study itself, each with the costs of all its stages: what laws, comparisons and plans take.

    Images, seconds and GPU-hours are sums from the first pretraining on, and `training_flops_per_image` is the mean
    over all these images; a pretraining that several cells share counts in full for each. A sum of which a part is
    not known is not known. Results, parameters, memory and speed are those of the last stage. A table without
    pretrainings keeps its costs.

    Raises:
        RecordError: if there is no row but of pretrainings.
    """
    if not {*STAGE_COLUMNS, *EARLIER} <= set(table):
        return table  # not of records, or made whole before it was saved
    own = table[table["stage"].isna()].drop(columns="stage").reset_index(drop=True)
    if own.empty:
        raise RecordError(f"{name}: only pretrainings are finished so far; 'scaling run-grid' does the rest")
    later = own["started_from_cell"].notna()
    if not later.any():
        return own.drop(columns=["started_from_cell", *EARLIER])
    numbers = own[["training_flops_per_image", *SUMMED, *EARLIER]].astype(float)
    flops = numbers["training_flops_per_image"] * numbers["images_seen"] + numbers["earlier_training_flops"]
    for column in SUMMED:
        own[column] = numbers[column].where(~later, numbers[column] + numbers[f"earlier_{column}"])
    per_image = numbers["training_flops_per_image"]
    own["training_flops_per_image"] = per_image.where(~later, flops / own["images_seen"])
    return own.drop(columns=list(EARLIER))


def _read_table(source: str | Path) -> "pd.DataFrame":
    import pandas as pd

    path = Path(source)
    if path.is_dir():
        rows = [_flat(record) for record in run_at(path).records()]
        if not rows:
            raise RecordError(f"{path}: no cell is finished yet; 'scaling run-grid' fills it")
        return pd.DataFrame(rows)
    if not path.is_file() and str(source) in published_studies():
        return pd.DataFrame([_flat(record) for record in published_study(str(source)).records])
    if not path.is_file():
        raise missing(path)
    check_suffix(path)
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save it as UTF-8") from None
    except (ValueError, OSError) as error:
        raise RecordError(f"{path}: cannot be read as a table: {error}") from None
    if table.empty:
        raise RecordError(f"{path}: the table has no rows")
    return table


def is_published(table: "pd.DataFrame") -> bool:
    """Whether a table is of a study of published records, which nobody can run again."""
    return "study" in table and bool(table["study"].isin(published_studies()).any())


def notes_on(table: "pd.DataFrame", designs: Iterable[str]) -> list[str]:
    """What there is to know of published records of these designs; nothing for measured ones."""
    if "study" not in table:
        return []
    used = table[table["design"].isin(list(designs))]
    names = [*used["design"].unique(), *used["source"].unique()] if "source" in used else []
    studies = [study for study in used["study"].unique() if study in published_studies()]
    return [note for study in studies for note in published_study(study).notes_about(names)]


def load_learning_curves(source: str | Path) -> "pd.DataFrame":
    """Training loss against images seen of every cell of the study itself that has begun, finished or not.

    Columns: cell (its name), design, seed, images_seen, training_loss, final_images, which the whole training
    sees, and of the moment training_flops, spent so far by the closed form, pretrainings included, and
    trained_patch_size, which differs from the design's in the first stages of a patch schedule.

    Raises:
        SourceError: if the source is no run directory.
        RecordError: if no cell has begun.
    """
    import pandas as pd

    run, rows = run_at(source), []
    for cell in run.study().cells():
        cost = cost_of_cell(cell, scan="recomputed")  # which changes memory alone
        same = {"cell": cell.name, "design": str(cell.design), "seed": cell.seed, "final_images": cost.images}
        for images, loss in run.learning_curve(cell.id):
            moment = {
                "training_flops": cost.earlier_training_flops + cost.training_flops_after(images),
                "trained_patch_size": cost.patch_size_after(images),
            }
            rows.append(same | {"images_seen": images, "training_loss": loss} | moment)
    if not rows:
        raise RecordError(f"{run.path}: no cell has logged its loss yet")
    return pd.DataFrame(rows)


def check_results(table: "pd.DataFrame") -> None:
    """Refuse a table whose designs or results cannot be what a record holds.

    Raises:
        RecordError: for text where a record has a number, or a rate above 1 (per cent instead of a share).
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    for column in NUMBERS:
        known = table[column].dropna() if column in table else None
        if known is None or known.empty:
            continue
        if not is_numeric_dtype(known.infer_objects()) or is_bool_dtype(known):
            raise RecordError(f"column '{column}' does not hold numbers, such as {known.iloc[0]!r}")
        if column in RATES and float(known.max()) > 1:
            raise RecordError(
                f"column '{column}' has values above 1, such as {known.max():g}; records hold shares: divide "
                "percentages by 100"
            )


def check_writable_table(path: Path) -> None:
    """Raise SourceError or OutputError, before long work, where a table could not be written to this path."""
    check_suffix(path)
    check_output(path)


def save_table(table: "pd.DataFrame", path: Path) -> None:
    """Write a table as CSV or Parquet, by the suffix of its path.

    Raises:
        SourceError: for another suffix.
        OutputError: if it cannot be written.
    """
    check_suffix(path)
    with output_file(path) as part:
        if path.suffix == ".csv":
            table.to_csv(part, index=False)
        else:
            table.to_parquet(part, index=False)


def _flat(record: Record) -> dict[str, Any]:
    """Columns of a record; nested tables become dotted columns such as 'recipe.learning_rate', lists in them text."""
    return dict(_columns("", record.model_dump(mode="json")))


def _columns(before: str, values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _columns(f"{before}{key}.", value)
        else:
            yield before + key, str(value) if isinstance(value, list) else value
