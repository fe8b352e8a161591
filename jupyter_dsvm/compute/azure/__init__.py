"""Azure behind the provider port. Importing this imports nothing of the Azure libraries."""

from .provider import AzureCompute

__all__ = ["AzureCompute"]
