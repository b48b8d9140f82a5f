"""Training: a configuration and a run directory -> a trained, scored and summarised run in it."""
