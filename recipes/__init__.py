"""Recipes: what a run is made of, as YAML that people read; validated here, handed to the parts as frozen settings."""
