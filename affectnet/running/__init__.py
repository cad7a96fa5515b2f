"""How a stage runs: its arguments, parallel work, progress, and records of files outside DVC. Used by every stage."""
