from pathlib import Path

import pytest

from scaling.design import (
    StudyError,
    build_study,
    builtin_studies,
    load_study,
    parse_study,
    run_directory_of,
    start_study,
    study_to_toml,
)
from scaling.design.studies import matches
from tests.conftest import small_study, study_values


def test_cells_are_the_product_of_the_axes() -> None:
    study = small_study(grid__sizes=["nano", "micro"], grid__patch_sizes=[8, 4, 2], grid__seeds=[0, 1])
    cells = study.cells()
    assert len(cells) == 12
    assert len({cell.id for cell in cells}) == 12


def test_single_designs_can_be_all_there_is_and_exclusions_reach_them() -> None:
    axes = {f"grid__{axis}": [] for axis in ("architectures", "sizes", "patch_sizes", "input_sizes")}
    names = ["deit-nano/16@16+linear+extend=16", "deit-micro/4@16+linear"]
    study = small_study(**axes, grid__designs=names)
    assert [str(cell.design) for cell in study.cells()] == names
    study = small_study(**axes, grid__designs=names, exclude=[{"design": "deit-micro/*"}])
    assert [str(cell.design) for cell in study.cells()] == names[:1]


def test_single_designs_stand_beside_the_product() -> None:
    names = ["deit-nano/8@16+linear+extend=16", "adventurer-64x2/2@32+linear"]
    study = small_study(grid__designs=names, grid__seeds=[0, 1])
    assert [str(cell.design) for cell in study.cells()[4:]] == [names[0], names[0], names[1], names[1]]
    assert parse_study(study_to_toml(study), "again") == study


def test_exclusion_by_length_and_pattern() -> None:
    rule = {"design": "deit-nano/*", "sequence_length_above": 16}
    study = small_study(grid__sizes=["nano", "micro"], grid__patch_sizes=[8, 4, 2], exclude=[rule])
    names = [str(cell.design) for cell in study.cells()]
    assert "deit-nano/2@16+linear" not in names
    assert "deit-nano/4@16+linear" in names
    assert "deit-micro/2@16+linear" in names


def test_an_exclusion_of_seeds_leaves_the_others_and_the_ids_of_all() -> None:
    axes = {"grid__patch_sizes": [8, 4], "grid__seeds": [0, 3, 5]}
    rule = {"design": "*/4@*", "seeds": [3, 5], "reason": "an hour each"}
    study = small_study(**axes, exclude=[rule])
    kept = {cell.name: cell.id for cell in study.cells()}
    assert list(kept) == [
        f"deit-nano/{patch}@16+linear seed {seed}" for patch, seed in ((8, 0), (8, 3), (8, 5), (4, 0))
    ]
    assert kept.items() < {cell.name: cell.id for cell in small_study(**axes).cells()}.items()
    assert parse_study(study_to_toml(study), "again") == study
    beyond = [{"design": "*/5@*", "seeds": [0, 3]}, {"design": "*/5@*", "seeds": [5]}]  # 5 does not divide 16
    odd = small_study(**axes | {"grid__patch_sizes": [8, 5]}, exclude=beyond)
    assert {str(cell.design) for cell in odd.cells()} == {"deit-nano/8@16+linear"}
    longer = small_study(**axes, exclude=[rule | {"sequence_length_above": 16}])
    assert len(longer.cells()) == 6


def test_exclusion_makes_an_impossible_combination_legal() -> None:
    study = small_study(grid__input_sizes=[16, 24], grid__patch_sizes=[8, 3], exclude=[{"design": "*/3@16"}])
    assert len(study.cells()) == 3


@pytest.mark.parametrize(
    ("name", "pattern", "found"),
    [
        ("deit-nano/8@16+linear", "deit-*/8@16", True),
        ("deit-nano/8@16+linear", "*+upernet", False),
        ("deit-nano/8@16+linear+extend=16", "deit-nano/8@16", False),
        ("deit-nano/8@16+linear+extend=16", "deit-nano/8@16+extend=16", True),
        ("deit-nano/8@16+extend=16", "deit-nano/8@16*", True),
    ],
)
def test_a_pattern_may_leave_the_head_out_and_nothing_else(name: str, pattern: str, found: bool) -> None:
    assert matches(name, pattern) == found


def test_a_rule_lists_alternatives_in_braces() -> None:
    rule = {"design": "*-micro/{4,2}@*"}
    study = small_study(grid__sizes=["nano", "micro"], grid__patch_sizes=[8, 4, 2], exclude=[rule])
    names = [str(cell.design) for cell in study.cells()]
    assert names == [*(f"deit-nano/{each}@16+linear" for each in (8, 4, 2)), "deit-micro/8@16+linear"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"measure__log_every_steps": 3}, True),
        ({"recipe__micro_batch_size": 4}, True),
        ({"grid__seeds": [1]}, False),
        ({"recipe__learning_rate": 2e-3}, False),
        ({"data__noise": 0.2}, False),
        ({"name": "other"}, True),
        ({"recipe__weight_decay": 0.05}, True),  # the default, written out
    ],
)
def test_cell_id_follows_what_determines_the_result(change: dict[str, object], same: bool) -> None:
    before, after = small_study().cells()[0].id, small_study(**change).cells()[0].id
    assert (before == after) is same


def test_toml_round_trip_keeps_every_cell() -> None:
    study = small_study(grid__seeds=[0, 3], exclude=[{"design": "*/8@*", "reason": "too coarse"}])
    again = parse_study(study_to_toml(study), "again")
    assert again == study
    assert [cell.id for cell in again.cells()] == [cell.id for cell in study.cells()]


def test_a_name_of_no_study_that_is_near_is_hinted_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(study_to_toml(small_study()))
    Path("runs/mine").mkdir(parents=True)
    with pytest.raises(StudyError, match=r"no built-in study 'mine' \(did you mean mine.toml or runs/mine\?\)"):
        load_study("mine")
    with pytest.raises(StudyError, match="did you mean 'digits-quick'"):
        load_study("digits-quik")


@pytest.mark.parametrize("name", list(builtin_studies()))
def test_builtin_studies_load_and_keep_their_name(name: str) -> None:
    assert load_study(name).name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"grid__input_sizes": [32], "grid__patch_sizes": [8, 4, 3], "data__canvas": 32},
            "grid.patch_sizes[2]: 3 does not divide input size 32; use one of 1, 2, 4, 8, 16, 32",
        ),
        ({"grid__patch_sizes": [8, 8]}, "grid.patch_sizes[1]: 8 is given twice"),
        ({"grid__patch_sizes": [8, "x"]}, "grid.patch_sizes[1]: 'x'"),
        ({"grid__patch_sizes": []}, "grid.patch_sizes: is missing; give all of"),
        ({"grid__seeds": [-1]}, "grid.seeds[0]: -1: input should be greater than or equal to 0"),
        ({"grid__sizes": ["nano", "bsae"]}, "grid.sizes[1]: deit-bsae: unknown size 'bsae': did you mean 'base'?"),
        ({"grid__architectures": ["vit"]}, "grid.architectures[0]: unknown architecture 'vit'"),
        ({"grid__heads": ["liner"]}, "grid.heads[0]: unknown head of segmentation 'liner': did you mean 'linear'?"),
        ({"recipe__learning_rat": 1e-3}, "recipe.learning_rat: unknown key; did you mean 'learning_rate'"),
        ({"recpie": {}}, "recpie: unknown key; did you mean 'recipe'?"),
        ({"exclude": [{"desing": "*"}]}, "exclude[0].desing: unknown key; did you mean 'design'?"),
        ({"recipe__learning_rate": -1.0}, "recipe.learning_rate: -1.0: input should be greater than 0"),
        ({"recipe__learning_rate": None}, "recipe.learning_rate: missing"),
        ({"recipe__precision": "fp8"}, "recipe.precision: 'fp8' is not allowed; use 'fp32', 'bf16' or 'fp16'"),
        ({"recipe__images": 640}, "recipe: steps and images are both given; keep one"),
        ({"recipe__steps": None}, "recipe: one of steps, images, epochs is needed"),
        ({"recipe__steps": None, "recipe__epochs": 3}, "an endless stream has no epochs; give steps or images"),
        ({"recipe__warmup_epochs": 1}, "recipe.warmup_epochs: an endless stream has no epochs; give warmup_steps"),
        ({"recipe__micro_batch_size": 3}, "recipe.micro_batch_size: 3 does not divide batch_size 8"),
        ({"data__name": "imagenett"}, "data.name: 'imagenett' is not known; did you mean 'imagenet'?"),
        ({"data__task": "classification"}, "data.digits: 2 digits have no single class"),
        ({"data__task": "classification", "data__digits": 1, "grid__heads": ["linear"]}, "grid.heads: classification"),
        ({"resources__data_workers": 2}, "resources.data_workers: the scenes of digits are drawn, not loaded; remove"),
        ({"exclude": [{"design": "*"}]}, "exclude: the rules leave no cell"),
        ({"exclude": [{"seeds": [0]}]}, "exclude: the rules leave no cell"),
        ({"exclude": [{"design": "*/8@*", "seeds": [4]}]}, "exclude[0].seeds: 4 is no seed of the grid; there are 0"),
        ({"name": "a/b"}, "name: 'a/b'"),
        ({"recipe__learning_rate": float("inf")}, "recipe.learning_rate: inf"),
        ({"recipe__steps": "6"}, "recipe.steps: '6'"),
        ({"grid__seeds": [True]}, "grid.seeds[0]: True"),
        ({"grid__seeds": 0}, "grid.seeds: 0: input should be a list"),
        ({"recipe__warmup_steps": 7}, "recipe: the warm-up of 7 steps is longer than the training of 6"),
        ({"grid__designs": ["deit-nano/3@16+linear"]}, "grid.designs[0]: patch size of 'deit-nano/3@16+linear'"),
        ({"grid__designs": ["deit-nano/4@16"]}, "deit-nano/4@16: the task is segmentation; use +linear"),
        ({"grid__designs": ["deit-nano/4@16x32+linear"]}, "grid.designs[0]: deit-nano/4@16x32+linear: the inputs of a"),
        ({"grid__designs": ["deit-nano/8@16+linear"]}, "grid.designs: deit-nano/8@16+linear is in the grid twice"),
        ({"recipe__start_from": "{sise}.pth"}, "recipe.start_from: unknown name {sise}: did you mean 'size'?"),
        ({"recipe__start_from": ""}, "recipe.start_from: "),
        ({"recipe__new_head": True}, "recipe.new_head: there is no checkpoint; give recipe.start_from"),
        ({"recipe__flip": "none"}, "recipe.flip: 'none' is not allowed; use 'alternate' or 'released'"),
        ({"exclude": [{"design": "diet-*"}]}, "exclude[0].design: 'diet-*' matches no design, such as deit-nano/8@16"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_with_path_value_and_fix(change: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        build_study(study_values(**change))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


DETECTION = {"data__task": "detection", "data__digits": 2}
RECIPE = {"steps": 6, "batch_size": 8, "learning_rate": 1e-3}
CLASSES_FIRST = {
    "name": "classes",
    "data": {"name": "digits", "task": "classification", "canvas": 16, "test_images": 40},
    "recipe": RECIPE,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (DETECTION | {"recipe__stages": [{"patch_size": 16, "share": 0.5}]}, "recipe.stages: detectors keep"),
        (DETECTION | {"resources__compile": True}, "resources.compile: the shapes inside a detector change"),
        (DETECTION | {"recipe__label_smoothing": 0.1}, "recipe.label_smoothing: 0.1 is for classes of images"),
        (DETECTION | {"recipe__auxiliary_loss": 0.4}, "recipe.auxiliary_loss: is of the head 'upernet'"),
        (
            DETECTION | {"recipe__detector": {"attention_window": 2}, "grid__architectures": ["deit", "adventurer"]},
            "recipe.detector.attention_window: adventurer-nano/8@16+cascade has no attention; leave the key out",
        ),
        (DETECTION | {"grid__patch_sizes": [8, 24]}, "grid.patch_sizes[1]: 24 is no patch of input size 16; use"),
        ({"recipe__auxiliary_loss": 0.4}, "recipe.auxiliary_loss: is of the head 'upernet'"),
        (
            {"recipe__by_size": [{"sizes": ["nano"], "auxiliary_loss": 0.4}]},
            "recipe.auxiliary_loss: is of the head 'upernet'",
        ),
        (
            {"recipe__auxiliary_loss": 0.4, "grid__heads": ["linear", "upernet"], "exclude": [{"design": "*+upernet"}]},
            "recipe.auxiliary_loss: is of the head 'upernet'",
        ),
        ({**DETECTION, "recipe__detector": {"sampled_regions": 3}}, "recipe.detector.sampled_regions: 3"),
        ({"recipe__detector": {"proposals": 64}}, "recipe.detector: is of the head 'cascade', which no design"),
        (
            DETECTION | {"pretraining": [CLASSES_FIRST | {"recipe": RECIPE | {"detector": {"proposals": 64}}}]},
            "pretraining[0].recipe.detector: is of the head 'cascade'",
        ),
        (
            {"pretraining": [CLASSES_FIRST | {"recipe": RECIPE | {"auxiliary_loss": 0.4}}], "grid__heads": ["upernet"]},
            "pretraining[0].recipe.auxiliary_loss: is of the head 'upernet'",
        ),
    ],
)  # fmt: skip
def test_keys_of_heads_that_no_design_has_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError) as caught:
        build_study(study_values(**change))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


def test_keys_of_heads_are_taken_where_a_design_has_one() -> None:
    small_study(recipe__auxiliary_loss=0.4, grid__heads=["linear", "upernet"], resources__compile=True)
    small_study(**DETECTION, recipe__detector={"strides": [2, 4], "attention_window": 2}, pretraining=[CLASSES_FIRST])
    small_study(recipe__label_smoothing=0.1, recipe__stages=[{"patch_size": 16, "share": 0.5}])


def test_a_rule_counts_the_tokens_of_a_padded_input() -> None:
    """16 pixels are 2 patches of 6 and two thirds; a detector's are 3 of them."""
    rule = {"sequence_length_above": 8}
    study = small_study(**DETECTION, grid__patch_sizes=[8, 6], exclude=[rule])
    assert [str(cell.design) for cell in study.cells()] == ["deit-nano/8@16+cascade"]
    study = small_study(**DETECTION, grid__patch_sizes=[8, 6], exclude=[rule | {"sequence_length_above": 9}])
    assert [cell.design.sequence_length for cell in study.cells()] == [4, 9]


def test_many_problems_are_cut_to_three_lines() -> None:
    with pytest.raises(StudyError, match=r"\(and 2 more\)") as caught:
        build_study({"name": "x", "recipe": {"batch_size": 0, "learning_rate": 0, "weight_decay": -1}})
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("name = \n")
    with pytest.raises(StudyError, match=r"broken.toml: not TOML: .*line 1"):
        load_study(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digits-quik", "did you mean 'digits-quick'"),
        ("nowhere/study.toml", "no such study file"),
        (".", "no such study file"),
    ],
)
def test_a_study_that_is_not_there(source: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(source)


def test_a_run_directory_stands_for_its_study_but_never_hides_a_built_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "digits-quick"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.toml").write_text(study_to_toml(small_study()))
    assert load_study("mine") == small_study()
    assert run_directory_of("mine") == Path("mine")
    assert load_study("digits-quick").name == "digits-quick"
    assert load_study("./digits-quick") == small_study()
    assert run_directory_of("digits-quick") is None


def test_a_template_must_begin_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("description = 'x'\n[data]\nname = 'digits'\n")
    with pytest.raises(StudyError):
        start_study(tmp_path / "new.toml", "new", str(tmp_path / "odd.toml"))
    with pytest.raises(StudyError, match="name"):
        start_study(tmp_path / "new.toml", "a\\1", "digits-quick")


def test_start_study_renames_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    start_study(path, "mine", "digits-quick")
    assert load_study(path).name == "mine"
    before = path.read_bytes()
    with pytest.raises(StudyError, match="exists already"):
        start_study(path, "mine", "digits-quick")
    assert path.read_bytes() == before
