"""Reading and asking: briefs, signals, replay, health."""
