"""Predictions on the test split, and the tables, figures and pages made of them. `evaluate` and `report` stand on it."""
