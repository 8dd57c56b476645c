"""Running a study: the driver, its workers, and their tasks."""
