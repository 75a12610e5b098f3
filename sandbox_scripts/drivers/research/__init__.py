"""Research: a question becomes a plan of commands. What is here so far says whether a command is safe to run."""
