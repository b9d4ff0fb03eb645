"""The buffer: holds verified events in front of the record while the record is away, when one is wanted."""
