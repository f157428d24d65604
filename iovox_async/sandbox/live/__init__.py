"""The web page that shows a sandbox's calls."""
