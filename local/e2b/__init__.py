"""E2B on loopback: the control API, and a namespace with an envd for each sandbox."""
