"""The sandbox's live web page."""
