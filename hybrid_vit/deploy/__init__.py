"""Trained models outside of their training: their weights, loading, prediction, demo."""
