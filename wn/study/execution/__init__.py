"""Running a study: the driver, its workers, and what they do."""
