"""The readers, one file per layout: they turn a download on the disk into rows of one schema. Used by `acquire`, `verify` and `clean`."""
