"""Designs and their results under a surface that is known."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from scaling.laws.surface import Places
from scaling.laws.surface.deviations import REACH

Array = np.ndarray
MIDDLE = {"parameters": 2e7, "input": 160.0, "patch": 8.0}
SIDES = (128.0, 224.0)


def places_of(designs: list[tuple[int, float, float, float]]) -> Places:
    """Of kinds, parameters, inputs and patches."""
    kinds, *columns = np.array(designs).T
    return Places(dict(zip(("parameters", "input", "patch"), columns, strict=True)), kinds.astype(int))


def grid(kinds: int = 1, sizes: int = 3, patches: tuple[float, ...] = (16, 8, 4)) -> Places:
    """Every size with every patch and two inputs."""
    parameters = [6e6 * 3.6**step for step in range(sizes)]
    return places_of(list(product(range(kinds), parameters, SIDES, patches)))


def joined(one: Places, other: Places) -> Places:
    """Both, one after the other."""
    scales = {name: np.concatenate([one.scales[name], other.scales[name]]) for name in one.scales}
    return Places(scales, np.concatenate([one.kinds, other.kinds]))


@dataclass(frozen=True, slots=True)
class Truth:
    """E + A N^-a R^-c + B N^-b R^-d p^beta with scales over their middles, and how far curves lie off it."""

    floor: float = 0.4
    first: float = 0.3
    second: float = 0.3
    model: tuple[float, float] = (0.25, 0.15)
    side: tuple[float, float] = (0.6, 0.3)
    patch: float = 0.8
    offsets: tuple[tuple[float, float], ...] = ((0.0, 0.0),)
    deviation: float = 0.0

    def log_loss(self, places: Places, generator: np.random.Generator) -> Array:
        """Of places (N,); deviations are drawn anew, of the kernel that waves approach, point for point."""
        model, side, patch = (places.scales[name] / MIDDLE[name] for name in ("parameters", "input", "patch"))
        offsets = np.exp(np.array(self.offsets))[places.kinds]
        first = self.first * offsets[:, 0] * model ** -self.model[0] * side ** -self.side[0]
        second = self.second * offsets[:, 1] * model ** -self.model[1] * side ** -self.side[1] * patch**self.patch
        return np.log(self.floor + first + second) + self.deviation * _curves(places, generator)


def _curves(places: Places, generator: np.random.Generator) -> Array:
    """A draw of unit variance, smooth over model size and input and apart for kinds, (N,)."""
    points = np.stack([np.log(places.scales[name]) / REACH[name] for name in ("parameters", "input")])
    squares = ((points[:, :, None] - points[:, None]) ** 2).sum(axis=0)
    squares += 2 * (places.kinds[:, None] != places.kinds)  # phases of two kinds differ by sqrt(2) reaches
    values, vectors = np.linalg.eigh(np.exp(-squares / 2))
    return vectors @ (np.sqrt(np.maximum(values, 0)) * generator.standard_normal(len(values)))


def drawn_truth(generator: np.random.Generator, kinds: int = 1, deviation: float = 0.0) -> Truth:
    """A world as the priors have them: gentle exponents, parts of one order."""
    parts = generator.dirichlet((4, 3, 3))
    steep = np.abs(generator.normal(0, 0.6, 5))
    offsets = np.concatenate([np.zeros((1, 2)), 0.2 * generator.standard_normal((kinds - 1, 2))])
    return Truth(
        *map(float, parts),
        model=(steep[0] / 2, steep[1] / 2),
        side=(steep[2], steep[3]),
        patch=steep[4],
        offsets=tuple(map(tuple, offsets.tolist())),
        deviation=deviation,
    )
