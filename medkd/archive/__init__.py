"""From a hospital's archive to an INDEX: find, classify, gate, annotate, check, split."""
