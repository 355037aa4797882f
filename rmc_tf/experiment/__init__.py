"""From a config to its results: stages, artefacts, and the cells of a table."""
