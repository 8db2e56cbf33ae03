"""What an encoder is worth: kNN, probes, fine-tuning."""
