"""What a compression leaves as `metadata.json`, under NetsPresso's names."""
