"""The Parquet tables between the stages, and the pointer to the download: one schema per file. Used by every stage."""
