"""Searches over params.yaml, and comparisons of experiments. No stage stands on it."""
