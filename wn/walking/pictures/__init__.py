"""Pictures: walks, and small multiples for reports."""
