"""Scores of one reply against its gold answer, what a list of scores proves, and which evaluation is best."""
