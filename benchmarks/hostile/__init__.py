"""Hostile input of every kind that the first attack on gemtune found, for `benchmarks.studies.hostile`."""
