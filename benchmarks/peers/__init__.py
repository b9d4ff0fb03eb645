"""The same accept-and-process job with other tools, in at most 60 lines each, as their own documentation has it."""
