"""Films: faces followed from frame to frame, predictions smoothed over time, annotated copies and the timeline's page."""
