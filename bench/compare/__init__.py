"""Parts of the side-by-side benchmark: cells, data, gates, statistics, environments, tables."""
