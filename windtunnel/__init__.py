"""The words of Windtunnel as code: settings, spec, manifest, registry, data sets and the command line."""

__version__ = "0.1.0"
