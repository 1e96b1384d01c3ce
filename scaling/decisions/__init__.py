"""Decisions from records: which axis to spend on. Needs no torch."""

from scaling.decisions.axes import AXES, Axis, Path
from scaling.decisions.candidates import COSTS, Candidate, Field
from scaling.decisions.comparing import AxisResult, Comparison, Difference, Step, compare, to_json
from scaling.decisions.confounders import differing_settings
from scaling.decisions.draws import Spread
from scaling.decisions.elasticity import Elasticity
from scaling.decisions.outcomes import OUTCOMES, CompareError, Outcome, find_outcome
from scaling.decisions.verdict import PHRASES, cost_name, verdict

__all__ = [
    "AXES",
    "COSTS",
    "OUTCOMES",
    "PHRASES",
    "Axis",
    "AxisResult",
    "Candidate",
    "CompareError",
    "Comparison",
    "Difference",
    "Elasticity",
    "Field",
    "Outcome",
    "Path",
    "Spread",
    "Step",
    "compare",
    "cost_name",
    "differing_settings",
    "find_outcome",
    "to_json",
    "verdict",
]
