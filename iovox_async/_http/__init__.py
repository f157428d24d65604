"""HTTP requests to the endpoint: URLs, network, tasks, throttling, errors."""
