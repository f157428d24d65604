"""Runs the requests of a stream and delivers its records."""
