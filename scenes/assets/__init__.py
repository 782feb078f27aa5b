"""Models to make scenes of: catalogues and folders, an index of them, and search in it."""
