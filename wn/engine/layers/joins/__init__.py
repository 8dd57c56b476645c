"""Where branches of a network come together: layers with several inputs."""
