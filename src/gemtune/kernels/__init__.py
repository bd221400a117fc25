"""Faster ways to compute what plain PyTorch computes: exact, and tested against it."""
