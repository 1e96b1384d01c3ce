"""Designs and studies: what is trained, written down and checked. Needs no torch."""

from scaling.design.architectures import (
    HEADS,
    MODELLED_HEADS,
    Architecture,
    DesignError,
    ModelSize,
    add_architecture,
    find_architecture,
    known_architectures,
)
from scaling.design.designs import Design, InputSize, divisors, sides_of
from scaling.design.hardware import Efficiency, Hardware
from scaling.design.patterns import alternatives, expand_designs
from scaling.design.recipes import DigitsData, Flip, Measure, PatchResize, PatchStage, Precision, Recipe
from scaling.design.schedules import TrainingStage
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
    write_new_study,
)

__all__ = [
    "alternatives",
    "HEADS",
    "MODELLED_HEADS",
    "Architecture",
    "Cell",
    "Design",
    "DesignError",
    "DigitsData",
    "Efficiency",
    "Exclusion",
    "Grid",
    "Hardware",
    "InputSize",
    "Measure",
    "ModelSize",
    "Flip",
    "PatchResize",
    "PatchStage",
    "Precision",
    "Recipe",
    "Study",
    "StudyError",
    "TrainingStage",
    "add_architecture",
    "known_architectures",
    "build_study",
    "builtin_studies",
    "divisors",
    "expand_designs",
    "find_architecture",
    "load_study",
    "matches",
    "parse_study",
    "run_directory_of",
    "sides_of",
    "start_study",
    "study_text",
    "study_to_toml",
    "write_new_study",
]
