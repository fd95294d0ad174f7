"""Which of two images annotators or judges prefer, and a generator aligned to these preferences.

- `candidates` — pairs of images to compare: `candidates.make_candidates`
- `labelling` — the page on which annotators compare them
- `judges` — automatic judges: `judges.AttributeFidelity`, `judges.Realism`, `judges.CounterfactualSoundness`,
  `judges.TruePixels`, `judges.Mixture`
- `judgement` — preferences from judges or answers: `judgement.judge_candidates`, `judgement.export_answers`
- `pairs` — preference pairs in memory: `pairs.Preferences`, `pairs.from_scores`
- `preferences` — the same as a data set: `preferences.write_preferences`, `preferences.read_preferences`
- `pixels` — images of pairs as PNG files
- `agreement` — agreement of judges: `agreement.agreement`
- `examples` — pairs as training samples them, balanced over subgroups: `examples.PreferenceExamples`
- `config` — settings of an alignment: `config.AlignmentConfig`
- `lora` — low-rank adapters of a denoiser: `lora.add_lora`, `lora.save_lora`
- `dpo` — the objective, Diffusion-DPO: `dpo.DPOObjective`
- `finetuning` — the whole of it: `finetuning.align_generator`, `finetuning.fuse_generator`
"""
