"""The results of a study as tables, fits, pictures and files."""
