"""File formats: bytes in, arrays out."""
