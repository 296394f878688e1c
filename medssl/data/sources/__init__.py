"""Data sources: one module for each kind of collection. A source lists the Records of the images without reading pixels."""
