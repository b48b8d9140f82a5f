"""Searching: a space of settings -> trials that are trained, compared by accuracy and cost, and the best of them."""
