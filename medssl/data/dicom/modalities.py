"""Which modalities (PS3.3 C.7.3.1.1.1) store slices of volumes."""

SLICES = frozenset({"CT", "MR", "PT", "NM"})
STACKS = SLICES - {"NM"}  # whose slices state where they lie; nuclear medicine stores planar views and projections, too
