"""How a stage runs: its arguments, parallel work, progress, and records of what lies outside DVC. Every stage stands on it."""
