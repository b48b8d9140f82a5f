"""Trained models after their training: weights, loading, prediction, ensembles, demo, export, publishing."""
