"""The files with which Slurm, Kubernetes, Ray, SkyPilot and Vertex AI run a recipe."""
