"""Photographs to expressions, for users: the predictor, its inputs and outputs. The command line stands on it."""
