"""A framework, a model and a backend, one file each, as a package outside the platform adds them."""
