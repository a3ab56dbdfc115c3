"""From an archive to batches."""
