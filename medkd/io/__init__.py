"""Reading what hospitals and public sets hold, into the types at the seams."""
