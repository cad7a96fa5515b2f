"""Photographs and videos: decoding, cropping and face detection. Used by `verify`, `crop` and the predictor."""
