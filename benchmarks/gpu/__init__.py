"""Correctness, speed and trainings on a GPU, as one program for a machine that is at hand for minutes."""
