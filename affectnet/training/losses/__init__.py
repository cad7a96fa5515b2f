"""The losses of the expressions, one file per family: `losses.<name>.function` of params.yaml selects one. `train` stands on them."""
