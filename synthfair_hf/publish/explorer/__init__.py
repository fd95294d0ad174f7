"""The explorer: a page of gradio with a tab for each thing that it is given.

- page — the tabs and their controls: `page.explore`
- counterfactual — one image, what it would have been, and what is predicted of both: `counterfactual.answer`
- families — a view of a data set, its families side by side: `families.families_page`
- figures — the figures of a leaderboard and of an audit: `figures.Leaderboard`, `figures.Audit`
- space — the same page as a Space of the Hub: `space.write_space`
"""
