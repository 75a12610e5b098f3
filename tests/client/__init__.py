"""The client, against the wire and against the local stack."""
