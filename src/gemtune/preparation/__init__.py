"""Rows x task -> data directory: duplicates dropped, groups kept whole when splitting, leaks reported."""
