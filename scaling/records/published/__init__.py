"""Published records that ship with the package, such as the study 'paper'. Needs no torch.

NAME.csv has a row per record, in the fields and units of the schema; NAME.toml says where the numbers are from, how
the models were trained, and what to know of them. Costs that the source does not print are estimated when the
records are read, in fields that say so.
"""

import csv
import hashlib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

from scaling.cost import CostEstimate, Execution, estimate
from scaling.design import Design
from scaling.records.schema import Record, Status

RESULTS = ("test_loss", "accuracy", "mean_iou", "box_ap")


@dataclass(frozen=True, slots=True)
class PublishedStudy:
    """Records of a publication with what to know of them."""

    name: str
    title: str
    authors: str
    venue: str
    records: tuple[Record, ...]
    figure1_offsets: dict[str, float]
    """Floors that the publication's own loss axes subtract, by panel of its Figure 1."""
    classes: dict[str, int]
    """By data set."""
    figure3_bases: tuple[str, ...]
    """Designs that the publication's comparison of axes starts from."""
    notes: tuple[tuple[tuple[str, ...], str], ...]

    def notes_about(self, names: Iterable[str]) -> list[str]:
        """Notes on any of these designs by short name, or on a source such as 'digitised'; those on all first."""
        names = list(names)
        return [text for about, text in self.notes if any(fnmatchcase(name, a) for a in about for name in names)]


def published_studies() -> list[str]:
    """Names of the studies of published records that ship."""
    return sorted(path.name[:-4] for path in resources.files(__name__).iterdir() if path.name.endswith(".csv"))


@cache
def published_study(name: str) -> PublishedStudy:
    """A study of published records, with costs filled in by the estimator."""
    folder = resources.files(__name__)
    about = tomllib.loads((folder / f"{name}.toml").read_text(encoding="utf-8"))
    rows = csv.DictReader((folder / f"{name}.csv").read_text(encoding="utf-8").splitlines())
    records = tuple(_record(name, {key: value for key, value in row.items() if value}, about) for row in rows)
    notes = tuple((tuple(note["about"]), note["text"]) for note in about["notes"])
    given = about["title"], about["authors"], about["venue"]
    bases = tuple(about["figure3_bases"])
    return PublishedStudy(name, *given, records, about["figure1_offsets"], about["classes"], bases, notes)


def _record(study: str, row: dict[str, str], about: dict[str, Any]) -> Record:
    name = _short_name(row)
    identity = "|".join((study, name, row["task"], row["source"], row["reference"]))
    values: dict[str, Any] = row | {
        "cell": hashlib.sha256(identity.encode()).hexdigest()[:12],
        "study": study,
        "design": name,
        "seed": None,
        "status": Status.DONE if any(key in row for key in RESULTS) else Status.UNREPORTED,
        "recipe": about["recipes"][row["recipe"]] if "recipe" in row else None,
    }
    missing = dict.fromkeys(("architecture", "size", "input_size", "sequence_length"))
    return Record.model_validate(missing | values | _costs(name, row, about))


def _short_name(row: dict[str, str]) -> str:
    if "architecture" not in row:
        return f"unnamed/{row['patch_size']}"
    name = f"{row['architecture']}-{row['size']}/{row['patch_size']}@{row['input_size']}"
    name += f"+{row['head']}" if "head" in row else ""
    return name + (f"+extend={row['extended_length']}" if "extended_length" in row else "")


def _costs(name: str, row: dict[str, str], about: dict[str, Any]) -> dict[str, Any]:
    """What the estimator knows of a design, on the hardware and with the precision of the source."""
    if row.get("architecture") is None:
        return {}  # an unnamed model
    design = Design.parse(name)
    known = _estimate(design, row["dataset"], about)
    hours = known.gpu_hours_per_epoch
    return {
        "sequence_length": design.sequence_length,
        "estimated_parameters": known.cost.parameters.total,
        "estimated_forward_flops_per_image": known.cost.forward_flops_per_image,
        "estimated_training_flops_per_image": known.cost.training_flops_per_image,
        "estimated_activation_bytes_per_image": known.cost.activation_bytes_per_image,
        "estimated_gpu_hours_per_epoch": hours.estimate if hours and row["dataset"] == "imagenet-1k" else None,
    }


def _estimate(design: Design, dataset: str, about: dict[str, Any]) -> CostEstimate:
    return estimate(
        design,
        about["hardware"],
        classes=about["classes"][dataset],
        batch_size=about["batch_size"],
        execution=Execution(about["precision"]),
    )
