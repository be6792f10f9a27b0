"""Who asks, and what they may do: the headers of a request in, a caller or a refusal out."""
