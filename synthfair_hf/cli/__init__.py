"""`synthfair VERB`: the command line. It opens paths and knows flags; the library takes objects and names arguments.

- command — a run, from its words to its exit status: `command.main`
- __main__ — the same by `python -m synthfair_hf.cli`
- verbs — every verb by name, in the order of the help: `verbs.VERBS`
- generators — train, finetune, rectify, super_resolve, counterfactual: `generators.Train`
- measures — predictor, autoencoder, calibrate, measure: `measures.MeasureSoundness`
- preferences — candidates, judge, label, align, fuse: `preferences.Align`
- datasets — recipes, generate, verify, merge, demo: `datasets.Generate`
- documents — card, validate, governance, push: `documents.Card`
- fairness — audit, monitor, detect, benchmark: `fairness.Audit`
- sources — preset, sources, ingest: `sources.Ingest`
- explorer — views, report, app: `explorer.App`
- settings — what a verb is, and flags that several share: `settings.VerbSettings`
- output — sentences that several verbs print: `output.next_command`
- folders — the flags of a folder of images: `folders.SourceFlags`
- words — how several words make a value: `words.Words`
- parser — settings from words, help, errors by the names of flags: `parser.parse`, `parser.help_of`, `parser.in_flags`

A verb is one class: its name, its description, an example, a field with a line of help per flag, and `run`, which calls
one public function. Defaults are those of the public functions. What `run` needs beyond the settings is imported when
it runs, so that nothing here imports torch.
"""

from .command import main

__all__ = ["main"]
