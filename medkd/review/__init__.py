"""What readers review, and what they decide."""
