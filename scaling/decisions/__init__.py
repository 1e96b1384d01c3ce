"""Decisions from records: which axis to spend on. Needs no torch."""

from scaling.decisions.axes import AXES, Axis, Path
from scaling.decisions.candidates import COSTS, Candidate, Field
from scaling.decisions.comparing import AxisResult, Comparison, Difference, Step, compare, to_json
from scaling.decisions.confounders import differing_settings
from scaling.decisions.draws import Spread
from scaling.decisions.elasticity import Elasticity
from scaling.decisions.outcomes import OUTCOMES, CompareError, Outcome, find_outcome
from scaling.decisions.patch_laws import PatchLaw, ScheduleError
from scaling.decisions.schedule import PatchSchedule, ScheduledStage, best_schedule, plan_schedule
from scaling.decisions.schedule_study import schedule_study, write_schedule
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
    "PatchLaw",
    "PatchSchedule",
    "Path",
    "ScheduleError",
    "ScheduledStage",
    "Spread",
    "Step",
    "best_schedule",
    "compare",
    "cost_name",
    "differing_settings",
    "find_outcome",
    "plan_schedule",
    "schedule_study",
    "to_json",
    "verdict",
    "write_schedule",
]
