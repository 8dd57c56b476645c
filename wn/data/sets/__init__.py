"""The known data sets: their content, and the sources of their files."""
