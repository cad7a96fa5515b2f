"""The nouns of the pipeline: what two or more stages, or your own Python, share."""
