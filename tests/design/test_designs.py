import pytest

from scaling.design import Design, DesignError, find_architecture


@pytest.mark.parametrize("name", ["deit-base/16@224", "adventurer-tiny/1@64", "deit-nano/4@32+linear"])
def test_short_name_round_trips(name: str) -> None:
    assert str(Design.parse(name)) == name


def test_sequence_length_counts_patches() -> None:
    assert Design.parse("adventurer-base/1@224").sequence_length == 50_176


# Table 7 of the paper.
TABLE_7 = {
    "deit": {
        "tiny": (192, 768, 12),
        "small": (384, 1536, 12),
        "base": (768, 3072, 12),
        "large": (1024, 4096, 24),
        "huge": (1280, 5120, 32),
    },
    "adventurer": {
        "tiny": (256, 640, 12),
        "small": (512, 1280, 12),
        "base": (768, 1920, 12),
        "large": (1024, 2560, 24),
        "huge": (1280, 3200, 32),
    },
}


def test_sizes_are_table_7() -> None:
    for architecture, sizes in TABLE_7.items():
        for size, expected in sizes.items():
            shape = find_architecture(architecture).sizes[size]
            assert (shape.width, shape.mlp_width, shape.depth) == expected
            assert shape.heads == (shape.width if architecture == "deit" else 2 * shape.width) // 64


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("deit-bsae/16@224", "deit-bsae: unknown size 'bsae': did you mean 'base'?"),
        ("diet-base/16@224", "unknown architecture 'diet': did you mean 'deit'?"),
        (
            "deit-base/15@224",
            "15 does not divide input size 224; use one of 1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 112, 224",
        ),
        ("deit-base/0@224", "0 does not divide input size 224"),
        ("deit-base/16@0", "16 does not divide input size 0"),
        ("deit-base/16@224+upernte", "unknown head 'upernte'"),
        ("deit-base-16", "'deit-base-16' is not a design: write architecture-size/patch@input"),
        ("", "'' is not a design"),
    ],
)
def test_bad_names_are_refused_with_the_fix(name: str, message: str) -> None:
    with pytest.raises(DesignError) as caught:
        Design.parse(name)
    assert message in str(caught.value)
