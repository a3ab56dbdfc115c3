"""What the teacher passes on, as a list of terms over one training loop."""
