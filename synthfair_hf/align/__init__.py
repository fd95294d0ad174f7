"""What images people and readers prefer, and a generator adapted to it."""
