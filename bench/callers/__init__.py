"""What one caller of a model sees of another that asks far more than it may."""
