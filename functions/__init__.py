"""The control plane: HTTPS endpoints that admit, launch and answer, deployed on Modal."""
