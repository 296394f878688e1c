"""Which modalities (PS3.3 C.7.3.1.1.1) store slices of volumes."""

SLICES = frozenset({"CT", "MR", "PT", "NM"})
WITHOUT_HU = "CT without HU"  # a CT that states no rescale to HU: no window in HU fits its values
STACKS = SLICES - {"NM"}  # modalities whose slices always have a place in space; nuclear medicine stores planar images, too
