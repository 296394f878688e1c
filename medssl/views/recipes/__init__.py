"""One file a recipe: the operations that make a view, with the reason for each."""
