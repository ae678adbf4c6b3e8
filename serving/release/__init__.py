"""Releases: a version is published, verified, measured, judged and promoted, or rolled back."""
