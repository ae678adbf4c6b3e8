"""The platform: its processes and programs, their environment, secrets and ports."""
