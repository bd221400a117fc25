"""Model families, and how a model of one is found, loaded and given adapters."""
