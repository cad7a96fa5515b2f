"""The checks per file and per row: decoding, near duplicates, label order, splits. Used by `verify` and `clean`."""
