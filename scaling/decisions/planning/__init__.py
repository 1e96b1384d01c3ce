"""Plans: spend a compute budget. Needs no torch."""

from scaling.decisions.planning.amounts import (
    Budget,
    parse_budget,
    parse_bytes,
    parse_days,
    parse_inference,
    parse_target,
)
from scaling.decisions.planning.checking import HeldOut, check_held_out
from scaling.decisions.planning.evidence import Evidence, PlanError, load_table
from scaling.decisions.planning.exchange import changes, question_of, read_plan, save_plan, to_json
from scaling.decisions.planning.outlook import Prediction
from scaling.decisions.planning.path import OptimalPath, optimal_path
from scaling.decisions.planning.pilot_studies import pilot_study
from scaling.decisions.planning.pilots import Pilots, next_pilots
from scaling.decisions.planning.plan import Known, Plan, check_spending, decide, learn, plan
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.ranking import FrontierPoint, Ranked
from scaling.decisions.planning.simulation import Simulation, simulate_grid
from scaling.decisions.planning.values import values_of_plan
from scaling.decisions.planning.words import interval_words, ruled_out, sentences, value_words

__all__ = [
    "Budget",
    "Evidence",
    "FrontierPoint",
    "HeldOut",
    "Known",
    "OptimalPath",
    "Pilots",
    "Plan",
    "PlanError",
    "Prediction",
    "Question",
    "Ranked",
    "Simulation",
    "changes",
    "check_held_out",
    "check_spending",
    "decide",
    "interval_words",
    "learn",
    "load_table",
    "next_pilots",
    "optimal_path",
    "parse_budget",
    "parse_bytes",
    "parse_days",
    "parse_inference",
    "parse_target",
    "pilot_study",
    "plan",
    "question_of",
    "read_plan",
    "ruled_out",
    "save_plan",
    "sentences",
    "simulate_grid",
    "to_json",
    "value_words",
    "values_of_plan",
]
