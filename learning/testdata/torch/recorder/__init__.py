"""What record.py is made of: architectures, the cases, exports, training curves, files."""
