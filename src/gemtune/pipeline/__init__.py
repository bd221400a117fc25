"""The verbs, as functions of a job: a recipe at work in its run directory."""
