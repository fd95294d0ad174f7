"""Causal diffusion: images under given covariates, and counterfactuals of observed images.

- `pipeline` — the pipeline: `pipeline.CausalDiffusionPipeline`
- `conditioning` — covariates as tokens: `conditioning.CovariateEncoder`
- `denoiser` — the network's interface: `denoiser.build_denoiser`, `denoiser.predict_velocity`
- `guidance` — strengths of changed covariates: `guidance.guided_velocity`
- `solver` — the reversible solver: `solver.ReversibleFlowScheduler`
- `latents` — images to latents and back: `latents.to_latents`, `latents.to_images`
- `autoencoders` — diffusers' autoencoders: `autoencoders.open_autoencoder`
- `latent_cache` — latents that are encoded once: `latent_cache.CachedLatents`
- `images` — images as users have them, and as the pipeline gives them: `images.prepare_images`, `images.to_output`
- `configuration` — settings that are allowed, and fit each other: `configuration.check_configuration`
- `inputs` — checks of the pipeline's arguments: `inputs.encode_covariates`, `inputs.encode_interventions`
- `placement` — devices and precisions of the pipeline: `placement.PlacedPipeline`
- `adapters` — low-rank adapters of the pipeline: `adapters.AdapterLoader`
- `objective` — training objectives: `objective.FlowMatchingObjective`, `objective.CounterfactualObjective`
- `reflow` — pairs of image and noise: `reflow.PairedExamples`
- `super_resolution` — an autoencoder of more pixels: `super_resolution.SuperResolutionObjective`
- `fitting` — training on a source: `fitting.train_generator`, `fitting.fit_scm`
- `start` — a saved generator that training starts from: `start.Start`
- `further_training` — of a saved generator: `further_training.finetune_generator`,
  `further_training.rectify_generator`, `further_training.super_resolve_generator`
- `training_run` — a generator in training, and its record: `training_run.TrainingRun`
- `coverage` — training images by combination of covariates: `coverage.Coverage`
- `saved` — saved generators before weights are loaded: `saved.find_generator`
- `generator` — loaded generators: `generator.load_generator`, `generator.push_generator`
- `text_to_image` — diffusers' text-to-image pipelines as samplers: `text_to_image.TextToImage`
- `documents` — its card, written and compared with its records: `documents.validate_generator`
- `release` — a generator as a model repository: `release.push_directory`
- `counterfactual` — one image file's counterfactual: `counterfactual.counterfactual`
- `loaded` — a generator that stays in memory: `loaded.LoadedGenerator`
- `discovery` — the pipeline under its name in diffusers: `discovery.announce`
"""
