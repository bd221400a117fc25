"""A run behind an OpenAI-compatible server."""
