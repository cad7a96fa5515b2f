"""Files on the disk: written completely or not at all, walked, compared with checksums. Used by every stage."""
