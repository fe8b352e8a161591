"""What a notebook can run on, behind one port (``provider.ComputeProvider``): Azure, hosts, and this server."""
