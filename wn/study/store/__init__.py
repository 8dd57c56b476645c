"""The store of a study, a SQLite file: one process writes, many read."""
