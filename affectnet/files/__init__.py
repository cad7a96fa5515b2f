"""Files on the disk: written whole or not at all, walked, held against checksums. Every stage stands on it."""
