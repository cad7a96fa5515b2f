"""A model file opened for prediction by ONNX Runtime or torch, and its export to ONNX. `export` and the predictor stand on it."""
