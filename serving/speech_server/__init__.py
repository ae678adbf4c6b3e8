"""The speech server, `dlserver`: the gRPC service and the versions that it answers with."""
