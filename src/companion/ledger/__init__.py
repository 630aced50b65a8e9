"""The ledger: evidence, measures, verdicts."""
