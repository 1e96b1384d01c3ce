"""Designs and studies: what is trained, written down and checked. Needs no torch."""

from scaling.design.architectures import (
    Architecture,
    DesignError,
    ModelSize,
    add_architecture,
    find_architecture,
    known_architectures,
)
from scaling.design.augmentation import Augmentation
from scaling.design.datasets import (
    DATA_SECTIONS,
    NOT_IDENTITY,
    Cifar10Data,
    Cifar100Data,
    Data,
    DigitsData,
    Files,
    HuggingFaceData,
    ImageFolderData,
    ImageNetData,
    MnistData,
    ParquetData,
    TableData,
    WebDatasetData,
    parse_data,
)
from scaling.design.designs import Design, InputSize, check_known, divisors, sides_of
from scaling.design.detectors import Detector
from scaling.design.hardware import Efficiency, Hardware
from scaling.design.patterns import alternatives, expand_designs
from scaling.design.pretraining import Pretraining
from scaling.design.recipe_files import BuiltinRecipe, StageRecipe, builtin_recipes
from scaling.design.recipes import Flip, Measure, PatchResize, PatchStage, Precision, Recipe
from scaling.design.resources import Resources
from scaling.design.schedules import TrainingStage
from scaling.design.sized_recipes import SizeSettings, StudyRecipe
from scaling.design.studies import Cell, Exclusion, Grid, Study, matches, with_earlier_stages
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
    with_processes,
    write_new_study,
)
from scaling.design.tasks import HEADS, HEADS_OF_TASK, Task, task_of_head

__all__ = [
    "alternatives",
    "HEADS",
    "HEADS_OF_TASK",
    "Architecture",
    "Augmentation",
    "BuiltinRecipe",
    "Cell",
    "Cifar10Data",
    "Cifar100Data",
    "DATA_SECTIONS",
    "Data",
    "Design",
    "DesignError",
    "Detector",
    "DigitsData",
    "Files",
    "HuggingFaceData",
    "ImageFolderData",
    "ImageNetData",
    "MnistData",
    "NOT_IDENTITY",
    "ParquetData",
    "TableData",
    "WebDatasetData",
    "parse_data",
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
    "Pretraining",
    "Recipe",
    "Resources",
    "SizeSettings",
    "StageRecipe",
    "Study",
    "StudyError",
    "StudyRecipe",
    "Task",
    "TrainingStage",
    "add_architecture",
    "known_architectures",
    "build_study",
    "builtin_recipes",
    "check_known",
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
    "task_of_head",
    "study_text",
    "study_to_toml",
    "with_processes",
    "with_earlier_stages",
    "write_new_study",
]
