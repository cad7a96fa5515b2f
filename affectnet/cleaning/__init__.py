"""What is checked per file and per row: decoding, near duplicates, label order, splits. `verify` and `clean` stand on it."""
