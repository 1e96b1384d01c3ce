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
    WebDatasetData,
    parse_data,
)
from scaling.design.designs import Design, InputSize, divisors, sides_of
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
    write_new_study,
)

__all__ = [
    "alternatives",
    "HEADS",
    "MODELLED_HEADS",
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
    "DigitsData",
    "Files",
    "HuggingFaceData",
    "ImageFolderData",
    "ImageNetData",
    "MnistData",
    "NOT_IDENTITY",
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
    "TrainingStage",
    "add_architecture",
    "known_architectures",
    "build_study",
    "builtin_recipes",
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
    "with_earlier_stages",
    "write_new_study",
]
