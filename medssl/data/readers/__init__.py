"""One file a format: a Record's pixels as float32 [C, H, W] in [0, 1] under one pixel contract."""
