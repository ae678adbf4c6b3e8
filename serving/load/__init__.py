"""Load: requests to a served version, and the generators that send them."""
