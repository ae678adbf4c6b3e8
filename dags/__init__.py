"""What happens in which order. Wiring only."""
