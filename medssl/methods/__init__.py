"""One file a method: views to a Step."""
