"""The page of `affectnet demo`. No stage stands on it."""
