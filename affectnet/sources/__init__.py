"""The readers, one file per layout: from a download on the disk to rows of one shape. `acquire`, `verify` and `clean` stand on it."""
