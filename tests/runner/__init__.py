"""The runner as a real process, against a fake of the REST wire."""
