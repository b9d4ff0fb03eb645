"""Measurements, always as ratios against a reference that runs in the same minute: `make bench`."""
