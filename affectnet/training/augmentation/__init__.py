"""The random transforms of training images, one file each: `augmentations.<name>` of params.yaml sets them. `train` stands on them."""
