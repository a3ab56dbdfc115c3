"""Results as a document."""
