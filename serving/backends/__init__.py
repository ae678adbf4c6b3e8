"""Backends: our clients of the model servers, one class each behind one interface, and the programs that start the servers."""
