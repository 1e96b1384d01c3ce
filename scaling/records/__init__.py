"""Records: the schema, the crash-safe store and the table. Needs no torch."""

from scaling.records.published import PublishedStudy, published_studies, published_study
from scaling.records.schema import FINISHED, SCHEMA_VERSION, Record, Status, describe
from scaling.records.store import RecordError, RunDirectory, write_whole
from scaling.records.tables import check_results, is_published, load_learning_curves, load_records, notes_on, save_table

__all__ = [
    "FINISHED",
    "PublishedStudy",
    "SCHEMA_VERSION",
    "Record",
    "RecordError",
    "RunDirectory",
    "Status",
    "check_results",
    "describe",
    "is_published",
    "load_learning_curves",
    "load_records",
    "notes_on",
    "published_studies",
    "published_study",
    "save_table",
    "write_whole",
]
