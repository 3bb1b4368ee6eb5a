"""What the service tells of itself: Prometheus metrics and OpenTelemetry traces, each service with its own."""
