"""Designs and studies: what is trained, written down and checked. Needs no torch."""

from scaling.design.architectures import ARCHITECTURES, HEADS, ModelSize
from scaling.design.designs import Design, DesignError
from scaling.design.recipes import DigitsData, Measure, Recipe
from scaling.design.studies import Cell, Exclusion, Grid, Study, matches
from scaling.design.study_files import (
    StudyError,
    build_study,
    builtin_studies,
    load_study,
    parse_study,
    run_directory_of,
    start_study,
    study_text,
    study_to_toml,
)

__all__ = [
    "ARCHITECTURES",
    "HEADS",
    "Cell",
    "Design",
    "DesignError",
    "DigitsData",
    "Exclusion",
    "Grid",
    "Measure",
    "ModelSize",
    "Recipe",
    "Study",
    "StudyError",
    "build_study",
    "builtin_studies",
    "load_study",
    "matches",
    "parse_study",
    "run_directory_of",
    "start_study",
    "study_text",
    "study_to_toml",
]
