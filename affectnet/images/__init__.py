"""Photographs and films: decoding, cropping, and finding faces. `verify` and `crop` stand on it, and the predictor."""
