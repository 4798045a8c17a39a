"""What comes from outside and means no good: requests, texts, paths, crowds."""
