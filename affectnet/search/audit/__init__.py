"""The audit of the labels, `make audit`: networks trained on folds, confident learning, and a page of the doubtful faces."""
