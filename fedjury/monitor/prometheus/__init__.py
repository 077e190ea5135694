"""What topics say, for Prometheus."""
