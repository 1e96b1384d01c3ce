"""Variable projection for y = E + A x^alpha, and intervals by profile likelihood.

Given alpha the law is linear in (E, A), so the best pair and every interval conditional on alpha
have closed forms; only alpha is searched, on a dense grid, so there are no starting values. For
few points the cut-off is F(1, n - k), which keeps its coverage where chi-square or z do not.

Residuals are relative, (predicted - y) / y: a loss of 0.1 and one of 1 count alike.
Shapes: N points, G grid values of alpha, Q queries.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

ALPHA_BOUND = 8.0
GRID_POINTS = 3201
ZOOMS = 6


@dataclass(frozen=True, slots=True)
class Profile:
    """Best (E, A) and residual sum of squares at each alpha of a grid (arrays of shape (G,)).

    `E`, `A` and `ssr` respect the bounds E >= 0 and A >= 0; `free_*` are without them; on the bounds,
    `zero_floor_*` are at E = 0 and `flat_*` at A = 0. H is the curvature of the sum of squares in (E, A).
    """

    alpha: Array
    E: Array
    A: Array
    ssr: Array
    free_E: Array
    free_A: Array
    free_ssr: Array
    zero_floor_A: Array
    zero_floor_ssr: Array
    flat_E: Array
    flat_ssr: Array
    H_EE: Array
    H_EA: Array
    H_AA: Array


def profile(x_N: Array, y_N: Array, alpha_G: Array, floor: bool) -> Profile:
    """Closed-form fit at every alpha; without `floor`, E is held at 0 (a pure power law)."""
    power_GN = x_N ** alpha_G[:, None] / y_N
    one_N = 1 / y_N
    H_EE = np.full(len(alpha_G), one_N @ one_N)
    H_EA, H_AA = power_GN @ one_N, np.sum(power_GN**2, axis=1)
    b_E, b_A = one_N.sum(), power_GN.sum(axis=1)
    zero_floor_A = b_A / H_AA

    def ssr(E: Array, A: Array) -> Array:
        return np.sum((E[:, None] * one_N + A[:, None] * power_GN - 1) ** 2, axis=1)

    zero = np.zeros_like(alpha_G)
    if not floor:
        free_E, free_A = zero, zero_floor_A
    else:
        determinant = H_EE * H_AA - H_EA**2
        with np.errstate(divide="ignore", invalid="ignore"):
            free_E = (H_AA * b_E - H_EA * b_A) / determinant
            free_A = (H_EE * b_A - H_EA * b_E) / determinant
        flat = determinant <= 1e-12 * H_EE * H_AA
        free_E, free_A = np.where(flat, 0, free_E), np.where(flat, zero_floor_A, free_A)
    flat_E = b_E / H_EE
    rising, below = free_A < 0, free_E < 0
    E = np.where(rising, flat_E, np.where(below, 0, free_E))
    A = np.where(rising, 0, np.where(below, zero_floor_A, free_A))
    return Profile(
        alpha=alpha_G,
        E=E,
        A=A,
        ssr=ssr(E, A),
        free_E=free_E,
        free_A=free_A,
        free_ssr=ssr(free_E, free_A),
        zero_floor_A=zero_floor_A,
        zero_floor_ssr=ssr(zero, zero_floor_A),
        flat_E=flat_E,
        flat_ssr=ssr(flat_E, zero),
        H_EE=H_EE,
        H_EA=H_EA,
        H_AA=H_AA,
    )


def best(x_N: Array, y_N: Array, floor: bool) -> tuple[float, float, float, float]:
    """Global minimum (E, A, alpha, sum of squares): a dense grid, then zooms around its best."""
    grid = np.linspace(-ALPHA_BOUND, ALPHA_BOUND, GRID_POINTS)
    fits = profile(x_N, y_N, grid, floor)
    for _ in range(ZOOMS):
        winner = int(np.argmin(fits.ssr))
        low, high = fits.alpha[max(winner - 1, 0)], fits.alpha[min(winner + 1, len(fits.alpha) - 1)]
        fits = profile(x_N, y_N, np.linspace(low, high, 41), floor)
    winner = int(np.argmin(fits.ssr))
    return tuple(float(values[winner]) for values in (fits.E, fits.A, fits.alpha, fits.ssr))  # pyright: ignore[reportReturnType]


@dataclass(frozen=True, slots=True)
class Region:
    """All (E, A, alpha) whose sum of squares stays under the cut-off, alpha by alpha."""

    fits: Profile
    cutoff: float
    floor: bool

    def alpha(self) -> tuple[float, float]:
        """Interval of the exponent; infinite on a side where the region reaches the search bound."""
        alpha = self.fits.alpha
        low, high = float(alpha[0]), float(alpha[-1])
        return (-np.inf if low <= -ALPHA_BOUND else low, np.inf if high >= ALPHA_BOUND else high)

    def linear(self, g_E: float, g_A_G: Array) -> tuple[float, float]:
        """Interval of g_E E + g_A A, where g_A may depend on alpha."""
        ends = [self._extreme(g_E, g_A_G, sign) for sign in (-1.0, 1.0)]
        return float(np.min(ends[0])), float(np.max(ends[1]))

    def _extreme(self, g_E: float, g_A: Array, sign: float) -> Array:
        fits = self.fits
        reach_A = np.sqrt(np.maximum(self.cutoff - fits.zero_floor_ssr, 0) / fits.H_AA)
        at_zero_floor = g_A * np.maximum(fits.zero_floor_A + sign * reach_A, 0)
        if not self.floor:
            return at_zero_floor
        reach_E = np.sqrt(np.maximum(self.cutoff - fits.flat_ssr, 0) / fits.H_EE)
        flat = g_E * (fits.flat_E + sign * reach_E)
        determinant = fits.H_EE * fits.H_AA - fits.H_EA**2
        with np.errstate(divide="ignore", invalid="ignore"):
            step_E = (fits.H_AA * g_E - fits.H_EA * g_A) / determinant
            step_A = (fits.H_EE * g_A - fits.H_EA * g_E) / determinant
            scale = sign * np.sqrt(np.maximum(self.cutoff - fits.free_ssr, 0) / (g_E * step_E + g_A * step_A))
            E, A = fits.free_E + scale * step_E, fits.free_A + scale * step_A
        below = ~np.isfinite(E) | (E < 0)
        return np.where(below, at_zero_floor, np.where(A < 0, flat, g_E * E + g_A * A))


def region(x_N: Array, y_N: Array, alpha: float, ssr: float, floor: bool, level: float) -> Region:
    """The profile-likelihood region of a fit with optimum `alpha` and sum of squares `ssr`."""
    parameters = 3 if floor else 2
    freedom = len(x_N) - parameters
    # Rounding alone leaves residuals of this size, so that exact data keep a region.
    smallest = len(x_N) * (64 * np.finfo(float).eps) ** 2
    cutoff = max(ssr, smallest) * (1 + float(stats.f.ppf(level, 1, freedom)) / freedom)
    coarse = profile(x_N, y_N, np.linspace(-ALPHA_BOUND, ALPHA_BOUND, GRID_POINTS), floor)
    inside = coarse.alpha[coarse.ssr <= cutoff]
    low = _edge(x_N, y_N, floor, cutoff, alpha, min(inside.min(initial=alpha), alpha), -1)
    high = _edge(x_N, y_N, floor, cutoff, alpha, max(inside.max(initial=alpha), alpha), +1)
    return Region(profile(x_N, y_N, np.linspace(low, high, 801), floor), cutoff, floor)


def _edge(x_N: Array, y_N: Array, floor: bool, cutoff: float, alpha: float, inside: float, side: int) -> float:
    """Bisect for the alpha at which the profile leaves the region, beyond the last grid value in it."""
    step = 2 * ALPHA_BOUND / (GRID_POINTS - 1)
    near, far = inside, inside + side * step
    if abs(far) >= ALPHA_BOUND:
        return side * ALPHA_BOUND
    for _ in range(60):
        middle = (near + far) / 2
        fit = profile(x_N, y_N, np.array([middle]), floor)
        near, far = (middle, far) if fit.ssr[0] <= cutoff else (near, middle)
    return near
