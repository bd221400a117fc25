"""Conversations -> replies -> scores of base and tuned."""
