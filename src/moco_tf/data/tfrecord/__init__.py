"""TFRecords as they are: the index of their records, and random access by it."""
