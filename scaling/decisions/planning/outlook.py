"""What designs will reach: draws of their outcomes, the chance of being the best, and how far beyond the data they are.

Shapes: M designs, R draws. Inner values are logarithms of a loss or of the odds of an error, as in `outcomes`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.cost import cost_of_shape
from scaling.cost.shapes import Execution
from scaling.decisions.outcomes import Array
from scaling.laws.surface import Places

if TYPE_CHECKING:
    from scaling.decisions.planning.evidence import Evidence
    from scaling.decisions.planning.space import Space

CHUNK = 2**17  # elements of draws x designs at once
POINT_WORK = 2**25  # elements that point predictions may take; larger spaces use fewer draws
TAIL = 0.025
SAME = 1.001  # factor up to which two values of a scale are one


@dataclass(frozen=True, slots=True)
class Prediction:
    """An outcome, in its own unit, with the 95 % interval of one new training."""

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Plain values."""
        return {"estimate": self.estimate, "low": self.low, "high": self.high}


def places_of(space: "Space", evidence: "Evidence", images: float | None) -> Places:
    """A space as the surface sees it; kinds that its records lack are -1, and it says nothing of them."""
    known = [evidence.kind(model.architecture, model.head) for model in space.models]
    kinds = np.array([-1 if kind is None else kind for kind in known])
    scales = {
        "parameters": model_parameters(space, evidence)[space.model],
        "input": space.input_size,
        "patch": space.patch_size,
    }
    if "data" in evidence.places.scales:
        known = float(evidence.places.scales["data"].max())
        scales["data"] = np.full(len(space), images or known)
    return Places(scales, kinds[space.model])


def model_parameters(space: "Space", evidence: "Evidence") -> Array:
    """Parameters without embedding, positions and head of each model, (models,)."""
    models, first = np.unique(space.model, return_index=True)
    names = space.architectures[first]
    found = np.ones(len(space.models))
    for architecture in np.unique(names):
        mine = names == architecture
        shape = space.chosen(first[mine]).shape()
        cost = cost_of_shape(str(architecture), shape, evidence.head, Execution("fp32"))
        found[models[mine]] = cost.parameters.without_embedding_and_head
    return found


def beyond_data(places: Places, evidence: "Evidence") -> Array:
    """Factor by which each design lies beyond the records of its kind, on the scale where most; 1 inside: (M,).

    Infinite where a scale has another value than the only one of the records.
    """
    factor = np.ones(len(places))
    for kind in range(len(evidence.kinds)):
        mine, theirs = places.kinds == kind, evidence.places.kinds == kind
        for name, values in places.scales.items():
            known = evidence.places.scales[name][theirs]
            outside = np.maximum(values[mine] / known.max(), known.min() / values[mine])
            if name not in evidence.surface.names:  # no law says what another value would change
                outside = np.where(outside > SAME, np.inf, outside)
            factor[mine] = np.maximum(factor[mine], outside)
    return factor


def point_predictions(evidence: "Evidence", places: Places) -> Array:
    """Medians of the inner values, (M,), over all draws or evenly spaced ones."""
    surface = evidence.surface
    step = max(1, surface.draws * len(places) // POINT_WORK)
    size = max(1, CHUNK * step // surface.draws)
    parts = (places.chosen(slice(start, start + size)) for start in range(0, len(places), size))
    medians = [np.median(evidence.log_losses(part, slice(None, None, step)), axis=0) for part in parts]
    return np.concatenate(medians) if medians else np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """Designs of which one is the best. Shapes: M contestants."""

    median: Array
    """(M,), inner values."""
    chance_best: Array
    """(M,)."""
    chance_target: Array | None
    """(M,), of reaching the target in one training."""


def contest(evidence: "Evidence", places: Places, target: float | None) -> Contest:
    """Which design is best in how many of the draws, in chunks that fit a processor's cache."""
    surface, generator = evidence.surface, np.random.default_rng(len(evidence.designs))
    best, winner = np.full(surface.draws, np.inf), np.zeros(surface.draws, int)
    medians, reached = np.zeros(len(places)), np.zeros(len(places))
    inner_target = None if target is None else float(evidence.outcome.inner(np.array(target)))
    luck = generator.standard_normal((surface.draws, 1))
    size = max(1, CHUNK // surface.draws)
    for start in range(0, len(places), size):
        part = slice(start, min(start + size, len(places)))
        losses = evidence.log_losses(places.chosen(part))
        medians[part] = np.median(losses, axis=0)
        lowest = losses.argmin(axis=1)
        value = losses[np.arange(len(losses)), lowest]
        better = value < best
        best, winner = np.where(better, value, best), np.where(better, start + lowest, winner)
        if inner_target is not None:
            noisy = losses + luck * evidence.run_noise(places.chosen(part))
            reached[part] = (noisy <= inner_target).mean(axis=0)
    chances = np.bincount(winner, minlength=len(places)) / surface.draws
    return Contest(medians, chances, None if target is None else reached)


def predictions(evidence: "Evidence", places: Places) -> list[Prediction]:
    """Of each place: the median, with what one new training can give."""
    if not len(places):
        return []
    generator = np.random.default_rng(len(evidence.designs))
    losses = evidence.log_losses(places)
    luck = generator.standard_normal((len(losses), 1))  # the same for all, whoever is asked with
    noisy = losses + luck * evidence.run_noise(places)
    low, high = np.quantile(noisy, (TAIL, 1 - TAIL), axis=0)
    outer = evidence.outcome.outer
    ends = np.sort(np.stack([outer(low), outer(high)]), axis=0)
    middle = outer(np.median(losses, axis=0))
    return [Prediction(*map(float, row)) for row in zip(middle, *ends, strict=True)]
