"""Evaluation of generators: soundness of counterfactuals, realism, memorisation, each with its interval and n.

- `soundness` — metrics of counterfactuals: `soundness.score`
- `gap` — shifts in units of real differences: `gap.share_of_gap`, `gap.real_gap`
- `locality` — changes in radiologists' boxes: `locality.score_locality`, `locality.locality`
- `pairs` — counterfactuals and the patient's other image: `pairs.score_pairs`, `pairs.find_pairs`
- `systems` — what is evaluated, and the ends of every scale: `systems.Identity`, `systems.Oracle`
- `interventions` — values of do(): `interventions.from_marginal`, `interventions.forced_change`
- `distances` — distances of pairs of images: `distances.l1`, `distances.ssim`, `distances.minimality`
- `realism` — distances of sets of images: `realism.realism`, `realism.frechet_distance`
- `texture` — grain and power spectrum: `texture.texture`, `texture.grain`, `texture.radial_power`
- `discrimination` — whether a network can tell two sets of images apart: `discrimination.discrimination`
- `noise` — spread of abducted noise, and random weights in a generator's place: `noise.noise_spread`, `noise.untrained`
- `memorisation` — nearest training images: `memorisation.memorisation`
- `predictors` — attribute predictors: `predictors.train_predictor`, `predictors.load_predictor`
- `autoencoder` — encoders for minimality: `autoencoder.train_autoencoder`, `autoencoder.load_encoder`
- `weights` — loading the weights of both: `weights.load_weights`
- `intervals` — bootstrap intervals: `intervals.bootstrap`, `intervals.bootstrap_mean`
- `shortcuts` — what digitisation tells of covariates: `shortcuts.measure_shortcuts`
- `scoreboard` — records and pages: `scoreboard.measure_soundness`, `scoreboard.measure_realism`
- `calibration` — strengths of changed covariates: `calibration.calibrate`
"""
