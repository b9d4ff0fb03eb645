"""The crash test: signed events go in, the process is killed again and again, and in the end every id is counted."""
