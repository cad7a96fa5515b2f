"""The verbs of the pipeline: one module per stage, run as `python -m stages.<name>`."""
