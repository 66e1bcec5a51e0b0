"""Families with their data and curves, and the cases to export."""
