"""The event log: one SQLite file for each run."""
