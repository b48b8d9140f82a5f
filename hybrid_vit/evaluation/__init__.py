"""Evaluation: what a trained network scores, and how sure one may be of it."""
