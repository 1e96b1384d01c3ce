"""What the documentation shows is true of the code."""

import re
from pathlib import Path

from scaling.design import parse_study
from scaling.design.recipes import DigitsData, Measure, Recipe
from scaling.records import Record

ROOT = Path(__file__).parents[1]


def test_the_example_study_is_a_study_and_shows_every_key() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "studies.md").read_text(), re.DOTALL)
    assert len(parse_study(text, "docs/studies.md").cells()) == 18
    alternatives = {"images", "epochs", "warmup_images", "warmup_epochs"}  # in comments beside steps
    keys = {*DigitsData.model_fields, *Recipe.model_fields, *Measure.model_fields} - alternatives
    assert keys <= set(re.findall(r"(?m)^(\w+) =", text))


def test_every_field_of_a_record_is_documented() -> None:
    page = (ROOT / "docs" / "records.md").read_text()
    assert {name for name in Record.model_fields if name not in page} <= SELF_EXPLAINING


SELF_EXPLAINING = {
    *("schema_version", "cell", "study", "design", "architecture", "size", "patch_size", "input_size", "head", "seed"),
    *("sequence_length", "task", "dataset", "source", "error", "test_images", "steps", "batch_size", "finished_at"),
    *("micro_batch_size", "images_seen", "images_per_second", "evaluation_seconds", "attention", "precision", "recipe"),
    *("data", "parameters_without_positions", "parameters_without_embedding_and_head"),
}
