"""What an administrator of a JupyterHub runs beside it: see docs/hub.md. Nothing is imported before it is asked for."""
