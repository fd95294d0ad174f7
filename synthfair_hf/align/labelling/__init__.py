"""A page on which annotators compare two images, and the file of their answers.

- `candidates` — pairs of images in a directory: `candidates.Candidates`
- `answers` — the file of answers: `answers.Answer`, `answers.Answers`
- `session` — the order of the pairs, and what an answer means: `session.Labelling`
- `page` — the page: `page.serve`, `page.render`
"""
