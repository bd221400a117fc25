"""Tokens -> an adapter or a tuned model."""
