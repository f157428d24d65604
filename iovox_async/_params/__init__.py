"""Checks and conversions of query parameters."""
