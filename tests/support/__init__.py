"""The real things that tests run against, each a context manager that leaves nothing behind."""
