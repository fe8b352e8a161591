"""The way to a machine: one SSH connection, its host key checked first. Importing this does not import paramiko."""
