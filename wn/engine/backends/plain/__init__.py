"""What all backends share, in plain array code over `xp`."""
