"""Curves whose law is known."""

import numpy as np

from scaling.laws import FitResult, Options, fit_points, gather

PATCHES = np.array([16.0, 8, 4, 2, 1])


def saturating(x: np.ndarray | float, E: float = 0.8, A: float = 0.016, b: float = 1.05) -> np.ndarray:
    """The law; by default about what the paper's Figure 1 a shows."""
    return E + A * np.asarray(x, dtype=float) ** b


def noisy(y: np.ndarray, deviation: float, seed: int) -> np.ndarray:
    """Log-normal noise."""
    return y * np.exp(deviation * np.random.default_rng(seed).standard_normal(len(y)))


def result_of(x: np.ndarray, y: np.ndarray, law: str = "saturating", **options: object) -> FitResult:
    """A fit without a table."""
    fitted = fit_points(gather(x, y), law, Options(**options))  # pyright: ignore[reportArgumentType]
    return FitResult(fitted, ("x",), "loss", {}, ())
