"""Records: the schema, the crash-safe store and the table. Needs no torch."""

from scaling.records.detectors import BOXES, MASKS, boxes_and_masks, count_records
from scaling.records.published import PublishedStudy, published_studies, published_study
from scaling.records.schema import FINISHED, SCHEMA_VERSION, Record, Status, describe
from scaling.records.sources import SourceError, run_at
from scaling.records.store import RESUME, RecordError, RunDirectory, flush, read_cell, write_whole
from scaling.records.tables import (
    check_results,
    check_writable_table,
    is_published,
    load_all,
    load_learning_curves,
    load_records,
    notes_on,
    save_table,
)

__all__ = [
    "BOXES",
    "FINISHED",
    "MASKS",
    "RESUME",
    "PublishedStudy",
    "SCHEMA_VERSION",
    "Record",
    "RecordError",
    "RunDirectory",
    "SourceError",
    "Status",
    "boxes_and_masks",
    "check_results",
    "check_writable_table",
    "count_records",
    "describe",
    "flush",
    "is_published",
    "load_learning_curves",
    "load_all",
    "load_records",
    "notes_on",
    "published_studies",
    "published_study",
    "read_cell",
    "run_at",
    "save_table",
    "write_whole",
]
