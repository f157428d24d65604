"""Integrations with other frameworks, one module each; a module is imported by name and needs its framework."""
