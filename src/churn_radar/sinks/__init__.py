"""Where briefs go: one module a kind, one small protocol."""
