"""The backbones, one file per family: its settings, its build, its layers, its published weights."""
