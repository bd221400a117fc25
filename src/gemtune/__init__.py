"""Fine-tune Gemma, and prove that it does your task."""
