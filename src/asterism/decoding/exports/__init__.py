"""A bundle as ONNX graphs, TensorRT plans and a Triton model repository."""
