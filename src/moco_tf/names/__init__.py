"""What the text of a field names: a source of data, an encoder. Imports nothing heavy."""
