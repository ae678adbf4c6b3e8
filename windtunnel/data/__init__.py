"""Data sets: images, recordings, and words from synthetic voices."""
