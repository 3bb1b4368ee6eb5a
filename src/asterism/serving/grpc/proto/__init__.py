"""Messages and services, and the modules that `python -m asterism.serving.grpc.compile` makes of them."""
