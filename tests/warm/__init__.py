"""Runs the commands of tests in forks of one process, the warm server, which has imported torch, DVC and the like."""
