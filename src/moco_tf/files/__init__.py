"""Bytes on disk and in object stores: atomic, locked, with digests."""
