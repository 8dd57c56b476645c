"""The ground of all parts: errors, numbers, options, the installed distribution."""
