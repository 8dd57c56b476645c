"""The tables and pictures of docs/theory/identities.md."""
