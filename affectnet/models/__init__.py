"""Networks, their model file, and how they see faces. `train`, `evaluate`, `report` and `export` stand on it."""
