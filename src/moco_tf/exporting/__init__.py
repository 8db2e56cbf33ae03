"""Features and encoders taken elsewhere."""
