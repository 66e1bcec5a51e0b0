"""The architectures, each with tiny widths."""
