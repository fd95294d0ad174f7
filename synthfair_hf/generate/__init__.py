"""Data sets of counterfactual families: plan -> subjects -> run -> store.

- dataset — generate, spread, repair, merge: `dataset.generate_dataset`, `dataset.spread_dataset`,
  `dataset.repair_dataset`, `dataset.merge_datasets`
- demo — a small example of the whole: `demo.demo`
- plan — what will exist: `plan.GenerationPlan`
- allocation, design, sharding, rows — its parts: `allocation.Allocation`, `design.Design`, `sharding.divide`,
  `rows.Row`
- numerics — how the network computes: `numerics.Numerics`
- support — cells that are rare in the training data: `support.model_support`, `support.source_support`
- recipes — contexts over which subjects are spread: `recipes.make_recipes`, `recipes.read_recipes`
- language_model, recipe_table, balance — its parts: `language_model.LanguageModel`, `recipe_table.RecipeTable`,
  `balance.balance`
- generator — the protocols of generators: `generator.Sampler`, `generator.CausalGenerator`
- sampling — what a plan says of a text-to-image pipeline: `sampling.Sampling`
- sampler — such a pipeline and its subjects, before its weights are loaded: `sampler.find_sampler`
- subjects — observations: `subjects.ModelSubjects`, `subjects.SourceSubjects`
- render — the generator in batches, images as files: `render.Renderer`
- gate — do images have the requested attributes? `gate.QualityGate`
- run — a plan carried out: `run.generate`, `run.repair`
- summary — a plan in a few lines: `summary.describe_summary`
- engines — a run over several processes: `engines.launch`
- store — files and records: `store.Store`, `store.read_plan`
- lock — who may write into a directory: `lock.lease`, `lock.mutex`
- verification — every byte and row checked: `verification.verify`
- consistency — what the plan and a family imply for stored rows: `consistency.row_faults`,
  `consistency.subject_faults`
- documents — card and Croissant written anew, or compared with the records: `documents.write_card`,
  `documents.validate`
- governance — what was checked from sources to monitoring, and what is missing: `governance.write_governance`
- deployment, evidence — its parts: `deployment.said_of_audits`, `evidence.RecordFile`
- merge — parts of one plan become one data set: `merge.merge`
- publish — a data set on the Hub: `publish.publish`
"""
