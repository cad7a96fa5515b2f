"""What runs or compares several trainings: searches, comparisons of experiments, the audit of the labels. No stage stands on it."""
