"""A folder of images in a few large files of TFRecords, and those of earlier versions."""
