"""Study files: their keys, and what these mean."""
