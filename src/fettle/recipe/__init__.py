"""Typed configuration: what the user asked for, and what it was resolved to."""
