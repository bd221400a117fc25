"""Text to SQL: prompt, canonical form, and a sandbox in which replies are run."""
