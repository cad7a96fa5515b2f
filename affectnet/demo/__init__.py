"""The demo: faces drawn from a parametric model in the spirit of FACS, as an AffectNet-shaped download with its faults."""
