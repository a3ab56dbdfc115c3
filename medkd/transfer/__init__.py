"""Knowledge transfer: a frozen teacher, and the list of terms by which a student learns from it."""
