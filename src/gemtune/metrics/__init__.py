"""Scores of one reply against its gold answer, and what a list of scores proves."""
