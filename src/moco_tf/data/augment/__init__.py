"""The operations that make views of images."""
