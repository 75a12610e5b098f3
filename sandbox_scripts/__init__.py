"""The runner: uploaded whole into the sandbox, standard library only, imports nothing of ours."""
