"""The notebook's files, on this server and on a VM."""
