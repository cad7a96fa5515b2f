"""One training: losses, optimisers, samplers, the loop over an epoch, and its saved state. `train` stands on it."""
