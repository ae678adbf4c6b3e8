"""The protocols of the speech server, and the modules made from them: `python -m serving.speech.protos` makes them again."""
