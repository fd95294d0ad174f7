"""What is observed, and where images come from: presets, sources, and worlds whose true mechanism is known."""
