"""The benchmark of mitigation methods.

- `board` — `benchmark`: plans cells and fits those that do not exist yet
- `cells` — `fit_cell`: fits and evaluates one method on one view
- `leaderboard` — `write_leaderboard`: prints the page, tables and figure of a benchmark
"""
