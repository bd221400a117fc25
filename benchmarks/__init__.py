"""Measurements of gemtune. A package of this name, so that no installed one is imported in its place."""
