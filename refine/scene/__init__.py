"""The models of a joint fit: one detector, and a crystal for every still or scan."""
