"""The demo data set, which the pipeline draws: faces, photographs, and the known faults of AffectNet. Used by `acquire`."""
