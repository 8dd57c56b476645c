"""Networks on disk and their settings."""
