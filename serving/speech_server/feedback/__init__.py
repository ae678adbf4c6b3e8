"""Users' suggestions to the speech server: storing, checking, and training with them."""
