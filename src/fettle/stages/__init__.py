"""The stages that ``pipeline.run`` calls in order; each reads what the one before it left."""
