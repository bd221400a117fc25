"""Conversation -> tokens, and tokens on disk."""
