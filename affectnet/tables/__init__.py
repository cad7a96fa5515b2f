"""The Parquet tables between the stages, and the pointer to the download: one schema per file. Every stage stands on it."""
