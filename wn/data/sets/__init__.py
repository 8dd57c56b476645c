"""The known data sets: what they are made of, and where their files come from."""
