"""Context features, the integer network, pmf tables and the rANS coder that they steer."""
