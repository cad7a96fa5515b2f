"""The data set that the pipeline draws itself: faces, photographs, and the known faults of AffectNet. `acquire` stands on it."""
