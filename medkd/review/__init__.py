"""What readers decided."""
