"""What a user writes: every key with its default and reason, and how a recipe file is read."""
