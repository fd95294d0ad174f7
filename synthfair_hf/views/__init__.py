"""A biased view is a filter on the rows of one data set.

- view — a named selection of rows: `view.BiasedView`, `view.get_view`, `view.curated_views`
- biases — what a bias plants: `biases.Bias`, `biases.get_bias`
- grammar — names of biases: `grammar.GRAMMAR`, `grammar.take_apart`
- draws — what views filter on: `draws.Draws`, `draws.Scheme`
- layout — names of files, and what they imply for rows: `layout.known`, `layout.find_files`
- manifest — are the files those that were written? `manifest.check_records`, `manifest.check_files`,
  `manifest.check_footers`, `manifest.sealed`
- registration — the builder under its name in datasets: `registration.register`
- pushing — what may be published of a loaded view: `pushing.guard_push_to_hub`
- shares — what a name's shares are in a data set: `shares.Train`, `shares.listed_views`
- preset — a domain by name or from a file, with views that exist: `preset.load_preset`
- builder — behind `load_dataset("synthfair", ...)`: `builder.SynthFair`, `builder.recipe_of`
"""
