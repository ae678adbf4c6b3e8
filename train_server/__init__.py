"""A spec and data in, a version's artefacts out."""
