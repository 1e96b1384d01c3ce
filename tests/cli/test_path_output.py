"""What is printed of a path."""

import json
from functools import cache

import pytest

from scaling.cli.output import Format
from scaling.cli.path_output import path_sentences, show_path
from scaling.decisions.planning import Question, parse_budget, plan
from scaling.decisions.planning.path import OptimalPath, optimal_path


@cache
def path(**changes: object) -> OptimalPath:
    asked = {"study": "paper", "budget": parse_budget("1e21 flops"), "draws": 256, **changes}
    return optimal_path(plan(Question(**asked)))  # pyright: ignore[reportArgumentType]


def test_the_path_is_a_sentence_and_two_tables(capsys: pytest.CaptureFixture[str]) -> None:
    found = path(epochs=300.0, input_sizes=(128, 224))
    show_path(found, Format.TABLE)
    shown = capsys.readouterr()
    sentence, *_ = shown.out.splitlines()
    factor = 1 / found.growth["patch_size"].per_tenfold.estimate
    assert sentence.startswith(f"* Per tenfold compute the best patch size shrinks {factor:.2g} times (95 %: ")
    rows = [line.split() for line in shown.out.splitlines() if "@" in line]
    assert len(rows) == 12
    assert rows[0][1] == found.points[0].design
    assert rows[-1][1] == found.points[-1].design
    assert "training FLOPs" in shown.out
    assert "exponent of compute [95 %]" in shown.out
    assert f"{found.growth['patch_size'].exponent.estimate:+.3f}" in shown.out
    assert "256 draws of the law" in shown.err
    assert "note: left out of" in shown.err


def test_without_power_laws_there_is_the_reason() -> None:
    sentences = path_sentences(path())
    assert "No power law of patch size and sequence length: no other scale has 3 values" in " ".join(sentences)
    assert not any("Per tenfold" in sentence for sentence in sentences)


def test_json_is_the_path_alone(capsys: pytest.CaptureFixture[str]) -> None:
    show_path(path(), Format.JSON)
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads(json.dumps(path().to_json()))
    assert shown.err == ""
