"""What everything stands on: errors, numbers, options, the installed distribution."""
