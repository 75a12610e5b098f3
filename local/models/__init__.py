"""The scripted model: Anthropic Messages on loopback, answered from files, or forwarded to the real API."""
