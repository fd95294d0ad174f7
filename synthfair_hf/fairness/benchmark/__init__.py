"""The benchmark of mitigation methods: one cell, the board of cells, the leaderboard."""
