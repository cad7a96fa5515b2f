"""Photographs to expressions, for users: the predictor, its inputs and outputs, ONNX. The command line stands on it."""
