"""The page on which a model runs in the browser: its files, and the server of `affectnet demo`. No stage stands on it."""
