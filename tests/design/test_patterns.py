import pytest

from scaling.design import Design, DesignError, expand_designs


def names(*patterns: str) -> list[str]:
    return [str(design) for design in expand_designs(list(patterns))]


def test_braces_list_alternatives_in_order() -> None:
    assert names("deit-base/{16,8}@{128,224}") == [
        "deit-base/16@128",
        "deit-base/16@224",
        "deit-base/8@128",
        "deit-base/8@224",
    ]
    assert names("deit-{384x10,small}/16@224") == ["deit-384x10/16@224", "deit-small/16@224"]


def test_stars_stand_for_architectures_and_sizes() -> None:
    assert names("*-base/16@224") == ["deit-base/16@224", "adventurer-base/16@224"]
    assert len(names("adventurer-*/16@224")) == 7


def test_designs_given_twice_are_one() -> None:
    assert names("deit-base/{16,8}@224", "deit-base/16@224") == ["deit-base/16@224", "deit-base/8@224"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("deit-base/*@224", "'\\*' stands for architectures and sizes"),
        ("deit-base/{16,15}@224", "15 does not divide"),
        ("dite-*/16@224", "unknown architecture 'dite'"),
        ("deit-base/{16,}@224", "is not a design"),
        ("deit-base/{16@224", "is not a design"),
    ],
)
def test_bad_patterns_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        expand_designs([pattern])


@pytest.mark.parametrize(
    "name",
    ["deit-640x12/16@224", "deit-base/16@224x320", "adventurer-base/16@224+extend=784", "deit-tiny/8@16x32+linear"],
)
def test_longer_short_names_round_trip(name: str) -> None:
    design = Design.parse(name)
    assert str(design) == name
    assert Design.parse(str(design)) == design


def test_free_sizes_follow_the_rule_of_the_named() -> None:
    assert Design.parse("deit-768x12/16@224").shape == Design.parse("deit-base/16@224").shape
    assert Design.parse("adventurer-768x12/16@224").shape == Design.parse("adventurer-base/16@224").shape


def test_grids_of_patches() -> None:
    assert Design.parse("deit-base/16@224x448").grid == (14, 28)
    assert Design.parse("deit-base/16@224x224") == Design.parse("deit-base/16@224")
    extended = Design.parse("deit-base/16@224x448+extend=1568")
    assert (extended.grid, extended.patches, extended.sequence_length) == ((28, 56), 392, 1568)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deit-100x12/16@224", "deit-100x12: width 100 is not a multiple of 64; use 64 or 128"),
        ("adventurer-40x2/16@224", "width 40 is not a multiple of 32; use 32 or 64"),
        ("deit-64x0/16@224", "depth 1 to 1,024"),
        ("deit-64x9999/16@224", "depth 1 to 1,024"),
        ("deit-base/16@224x230", "16 does not divide input size 230"),
        ("deit-base/1@99999", "input size 99999 is beyond 32,768 pixels"),
        ("deit-base/16@224+extend=300", "the 14 x 14 patches stretch to lengths such as 784 or 3136"),
        ("deit-base/16@224+extend=196", "stretch to lengths such as"),
        ("deit-base/16@224x112+extend=144", "the 14 x 7 patches stretch"),
    ],
)
def test_sizes_that_cannot_be(name: str, message: str) -> None:
    with pytest.raises(DesignError) as caught:
        Design.parse(name)
    assert message in str(caught.value)
