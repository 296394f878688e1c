"""One module for each file format. A reader returns the pixels of a Record as float32 [C, H, W] in [0, 1]."""
