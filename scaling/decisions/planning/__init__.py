"""Plans: spend a compute budget. Needs no torch."""
