"""Doors into other people's programs: one small file a framework.

The law of this package: nothing below imports it, and each file is imported by name, since it needs its framework.
"""
