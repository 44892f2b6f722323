"""Items on D-Bus: the tree, the two interfaces, the Venus habits. No protocol."""
