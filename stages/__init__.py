"""The verbs of the pipeline: one module per stage, run as `python -m stages.<name>`."""

from affectnet.running.watchdog import end_with_parent

end_with_parent()  # before the stage's imports, which take seconds
