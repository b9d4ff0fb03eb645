"""Who must be forgotten, and how they are known again without being known. Pure."""
