"""A model from S3 on loopback: the resolver and the fetch beside ``curl | tee | sha256sum``."""
