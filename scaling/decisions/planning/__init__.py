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
from scaling.decisions.planning.plan import FrontierPoint, Known, Plan, Ranked, decide, learn, plan
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.words import interval_words, ruled_out, sentences, value_words

__all__ = [
    "Budget",
    "Evidence",
    "FrontierPoint",
    "HeldOut",
    "Known",
    "Plan",
    "PlanError",
    "Prediction",
    "Question",
    "Ranked",
    "changes",
    "check_held_out",
    "decide",
    "interval_words",
    "learn",
    "load_table",
    "parse_budget",
    "parse_bytes",
    "parse_days",
    "parse_inference",
    "parse_target",
    "plan",
    "question_of",
    "read_plan",
    "ruled_out",
    "save_plan",
    "sentences",
    "to_json",
    "value_words",
]
