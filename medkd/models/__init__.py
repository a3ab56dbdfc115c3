"""Networks, large and compact, and the model directory."""
