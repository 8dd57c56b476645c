"""The report of a study: one page with its tables and pictures."""
