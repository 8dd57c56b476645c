"""A network on disk, evaluated under noise at one place."""
