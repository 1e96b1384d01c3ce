"""What records say: the designs of one task that were tried, and the surface of laws that agrees with them."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from scaling.cost import DEFAULT_CLASSES, Head, cost_of_shape, head_for
from scaling.cost.shapes import Execution, Shape
from scaling.decisions.candidates import Candidate, Field, gather_candidates, of_task
from scaling.decisions.outcomes import OUTCOMES, Array, CompareError, Outcome, SeedNoise, find_outcome, seed_noise
from scaling.design import Design, DesignError, load_study, run_directory_of
from scaling.errors import ScalingError, UsageError
from scaling.laws import FitError, rows_where
from scaling.laws.surface import Places, Surface, fit_surface
from scaling.records import check_results, load_records, published_studies, published_study

if TYPE_CHECKING:
    import pandas as pd

    from scaling.decisions.planning.question import Question

NOISE_WEIGHT = 4.0  # points that the seed noise counts for; laws miss by more than seeds differ
ALIKE = 1e-6  # of identities of designs
LEAST_SHARE = 0.001  # of draws, for what records do not refute
FOLLOWED = 0.01  # by how much curves lie off a law that they follow, of logarithms
SMALLEST = np.finfo(float).tiny  # so that no misfit and no luck have a ratio
SAME_DATA = 1.05  # factor by which images seen must differ to be a scale


Kind: TypeAlias = tuple[str, str | None]
"""An architecture and its head."""


class PlanError(ScalingError):
    """A plan that cannot be made, with what would make it possible."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Records of one task and data set as a surface sees them. Shapes: N designs."""

    outcome: Outcome
    designs: tuple[str, ...]
    values: Array
    """(N,), the outcome, averaged over seeds."""
    places: Places
    kinds: tuple[Kind, ...]
    """Architectures with their heads, in the order of `Places.kinds`."""
    noise: SeedNoise
    seeds: Array
    """(N,), of each design."""
    images_seen: float | None
    """Of the longest training; None where records do not say."""
    has_pretrainings: bool
    """Whether the images were seen in several stages, each at a cost of its own."""
    batch_size: int | None
    task: str
    dataset: str
    head: Head
    """Of the first kind; those of others differ in their kind alone."""
    fingerprint: str
    """Hash of the designs and values."""
    surface: Surface = field(repr=False)

    @property
    def own_noise(self) -> float:
        """Standard deviation between seeds, of an inner value."""
        return float(self.noise.estimate(float(np.median(self.values))))

    @property
    def luck_of_means(self) -> float:
        """Variance of the means of a design's seeds, of an inner value, on average over the designs."""
        return self.own_noise**2 * float(np.mean(1 / self.seeds))

    @property
    def draws(self) -> int:
        """Of the surface, R."""
        return self.surface.draws

    @property
    def may_follow(self) -> bool:
        """Whether curves may follow the law: in one draw of a thousand or more they lie off it by 2 % or less."""
        return bool(np.mean(self.surface.deviations < 2 * FOLLOWED) >= LEAST_SHARE)

    def as_if_followed(self, draws: int, seed: int) -> "Evidence":
        """The same records, all of whose curves are taken to follow the law but for a hundredth.

        Args:
            draws: of the surface.
            seed: of the draws.
        """
        noise = math.sqrt(self.luck_of_means)
        y, kinds = self.outcome.inner(self.values), len(self.kinds)
        return replace(self, surface=fit_surface(self.places, y, noise, NOISE_WEIGHT, kinds, draws, seed, FOLLOWED))

    def tried(self, places: Places) -> Array:
        """For each place the index of the record at it, (M,), or -1."""
        mine, theirs = (_identities(each, tuple(self.places.scales)) for each in (self.places, places))
        order = np.argsort(mine)
        nearest = np.clip(np.searchsorted(mine[order], theirs - ALIKE), 0, len(mine) - 1)
        return np.where(np.abs(mine[order][nearest] - theirs) < ALIKE, order[nearest], -1)

    def log_losses(self, places: Places, draws: slice = slice(None)) -> Array:
        """Draws (R, M) of inner values: of designs that were tried, what they reached moves the surface there.

        A design lies off its curve by a misfit of its own, which its records tell as far as they are not luck.
        """
        losses = self.surface.log_losses(places, draws)
        tried = self.tried(places)
        columns = np.flatnonzero(tried >= 0)
        if not len(columns):
            return losses
        luck = self.own_noise**2 / self.seeds[tried[columns]]
        typical = self.surface.sigma[draws, None] ** 2  # of a design's mean, with as much luck as they have on average
        misfit = np.maximum(typical - self.luck_of_means, 0.0)
        share = misfit / np.maximum(misfit + luck, SMALLEST)
        reached = self.outcome.inner(self.values)[tried[columns]]
        unit = np.random.default_rng(len(self.designs)).standard_normal((self.draws, len(self.designs)))
        left = np.sqrt(misfit * (1 - share)) * unit[draws][:, tried[columns]]
        losses[:, columns] += share * (reached - losses[:, columns]) + left
        return losses

    def run_noise(self, places: Places) -> Array:
        """Standard deviation (R, M) of one new training: its seed's luck, and the misfit of designs never tried."""
        untried = self.surface.sigma**2 + self.own_noise**2 - self.luck_of_means
        return np.where(self.tried(places) >= 0, self.own_noise, np.sqrt(untried)[:, None])

    def seeds_of(self, designs: Iterable[str]) -> Array:
        """How many seeds of each have been run; 0 of those that are not among the records."""
        known = dict(zip(self.designs, self.seeds, strict=True))
        return np.array([known.get(design, 0.0) for design in designs])

    def measured(self, design: str) -> float | None:
        """What a design reached; None if it is not among the records."""
        return float(self.values[self.designs.index(design)]) if design in self.designs else None

    def kind(self, architecture: str, head: str | None) -> int | None:
        """Index of a kind; None if no record is of it."""
        return self.kinds.index((architecture, head)) if (architecture, head) in self.kinds else None


def _identities(places: Places, names: tuple[str, ...]) -> Array:
    """One number for each place, the same for the same design: a mix of kind and logarithms of scales, (M,)."""
    return 1000.0 * places.kinds + sum(
        np.log(places.scales[name]) * math.sqrt(prime) for name, prime in zip(names, (2, 3, 5, 7), strict=False)
    )


def load_table(question: "Question") -> "pd.DataFrame":
    """The records of a question, checked; of one task where it names one."""
    table = load_records(question.study)
    check_results(table)
    return of_task(table, question.task)


def gather_evidence(table: "pd.DataFrame", question: "Question", outcome: str | None = None) -> Evidence:
    """Records of a table that carry a law, and the surface fitted to them.

    Raises:
        PlanError: if they carry none, with what is missing.
        UsageError: for an outcome or an expression that the records do not have.
    """
    try:
        found = find_outcome(table, outcome or question.outcome)
        seen = held_in(table, question)
        tried = gather_candidates(seen, found)
    except CompareError as error:
        words = str(error).replace("can be compared", "can be planned").replace("to compare", "to plan from")
        raise PlanError(words) from None
    rows = _rows_of(seen, tried, found)
    used, kinds, places = places_of_designs(tried.candidates, rows)
    if not used:
        raise PlanError(
            f"no record with a {found.label} is of a design whose cost is known; there is nothing to plan from"
        )
    names = tuple(each.design for each in used)
    noise = seed_noise({each.design: each.results for each in used}, found, question.seed_noise)
    values = np.array([each.value for each in used])
    seeds = np.array([len(each.results) for each in used], float)
    if "data" in places.scales and places.scales["data"].max() < SAME_DATA * places.scales["data"].min():
        del places.scales["data"]
    typical = noise.estimate(float(np.median(values))) * math.sqrt(float(np.mean(1 / seeds)))
    try:
        surface = fit_surface(
            places,
            found.inner(values),
            typical,
            NOISE_WEIGHT,
            len(kinds),
            question.draws,
            question.seed,
        )
    except FitError as error:
        raise PlanError(
            f"{question.study}: {error}; add cells with 'scaling run-grid', or plan from another --study"
        ) from None
    return Evidence(
        outcome=found,
        designs=names,
        values=values,
        places=places,
        kinds=kinds,
        noise=noise,
        seeds=seeds,
        images_seen=_largest(rows, "images_seen"),
        has_pretrainings="started_from_cell" in rows and bool(rows["started_from_cell"].notna().any()),
        batch_size=_most_common(rows, "batch_size"),
        task=tried.task,
        dataset=tried.dataset,
        head=_head(question.study, tried.dataset, rows[rows["design"] == names[0]].iloc[0].to_dict(), kinds[0][1]),
        fingerprint=_fingerprint(names, values),
        surface=surface,
    )


def other_outcomes(table: "pd.DataFrame", question: "Question", main: Evidence) -> list[Evidence]:
    """Evidence on the other outcomes of the same task, of those that records can carry; loss beside accuracy."""
    same, found = of_data(table, main.task, main.dataset), []
    for column in OUTCOMES:
        if column == main.outcome.column or column not in same or not same[column].notna().any():
            continue
        other_unit = OUTCOMES[column].is_loss != main.outcome.is_loss
        asked = replace(question, seed_noise=None) if other_unit else question
        try:
            found.append(gather_evidence(same, asked, column))
        except ScalingError:  # too few of them: the outcome is not shown
            continue
    return found


def of_data(table: "pd.DataFrame", task: str, dataset: str) -> "pd.DataFrame":
    """The rows of a task and data set; of all where the table does not tell them apart."""
    for key, value in (("task", task), ("dataset", dataset)):
        if value and key in table:
            table = table[table[key] == value]
    return table


def held_in(table: "pd.DataFrame", question: "Question") -> "pd.DataFrame":
    """The rows that laws may see."""
    return table if question.hold_out is None else table[~rows_where(table, question.hold_out)]


def parameters_of(design: Design) -> float:
    """Parameters without embedding, positions and head: the size of a model, whatever its patch and input."""
    cost = cost_of_shape(design.architecture, Shape.of(design), Head(kind=design.head), Execution("fp32"))
    return float(cost.parameters.without_embedding_and_head)


def _rows_of(table: "pd.DataFrame", tried: Field, outcome: Outcome) -> "pd.DataFrame":
    """The rows that candidates were made of: of their task and data set, with a result."""
    rows = table[table[outcome.column].notna() & table["design"].isin([each.design for each in tried.candidates])]
    rows = of_data(rows, tried.task, tried.dataset)
    if "images_seen" in rows and rows["images_seen"].notna().any():
        lengths = rows.groupby("design")["images_seen"]
        twice = lengths.max() > SAME_DATA * lengths.min()
        if twice.any():
            raise PlanError(
                f"{twice.idxmax()} was trained on {lengths.min()[twice.idxmax()]:,.0f} and on "
                f"{lengths.max()[twice.idxmax()]:,.0f} images: give a table with one length of each design"
            )
    return rows


def places_of_designs(
    candidates: Sequence[Candidate], table: "pd.DataFrame", kinds: tuple[Kind, ...] | None = None
) -> tuple[list[Candidate], tuple[Kind, ...], Places]:
    """The candidates that have a result and a known cost, their kinds, and where they lie on a surface.

    Args:
        candidates: designs that were tried.
        table: their rows.
        kinds: the only ones that count; by default all.
    """
    sized = [(each, size) for each in candidates if (size := _size_of(each)) is not None]
    found = kinds or tuple(dict.fromkeys(_kind(each) for each, _ in sized))
    sized = [(each, size) for each, size in sized if _kind(each) in found]
    used = [each for each, _ in sized]
    scales = {
        "parameters": np.array([size for _, size in sized]),
        "input": np.array([each.fields["input_size"] for each in used], float),
        "patch": np.array([each.fields["patch_size"] for each in used], float),
    }
    if "images_seen" in table:
        seen = table.groupby("design")["images_seen"].mean().reindex([each.design for each in used]).to_numpy(float)
        if np.isfinite(seen).all():
            scales["data"] = seen
    return used, found, Places(scales, np.array([found.index(_kind(each)) for each in used], int))


def _kind(candidate: Candidate) -> Kind:
    return candidate.fields["architecture"], candidate.fields["head"]


def _size_of(candidate: Candidate) -> float | None:
    """Parameters of a design with a result, a known cost, and the tokens of its input alone; None for others."""
    fields = candidate.fields
    if candidate.value is None or fields["extended_length"] is not None or fields["input_size"] is None:
        return None
    try:
        return parameters_of(Design.parse(candidate.design))
    except (DesignError, UsageError):
        return None


def _head(study: str, dataset: str, row: dict[Any, Any], head: str | None) -> Head:
    """The head that the records were trained with, by their study or a row; of a plain table, that of ImageNet-1k."""
    run = run_directory_of(study)
    if run is not None:
        trained = load_study(run)
        return head_for(trained.data, trained.recipe, head)
    if study in published_studies():
        return Head(published_study(study).classes.get(dataset, DEFAULT_CLASSES), head)
    from scaling.cost import recorded_head  # late: it comes with calibration, which needs scipy

    return recorded_head(row)


def _largest(rows: "pd.DataFrame", column: str) -> float | None:
    return float(rows[column].max()) if column in rows and rows[column].notna().any() else None


def _most_common(rows: "pd.DataFrame", column: str) -> int | None:
    known = rows[column].dropna() if column in rows else None
    return int(known.mode().iloc[0]) if known is not None and len(known) else None


def _fingerprint(designs: tuple[str, ...], values: Array) -> str:
    text = "\n".join(sorted(f"{design} {value:.12g}" for design, value in zip(designs, values, strict=True)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
