"""The speech server's protocols and the modules generated from them; to regenerate: `python -m serving.speech_server.protos`."""
