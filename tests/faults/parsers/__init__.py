"""Everything that reads text from outside, fed with text that nobody meant."""
