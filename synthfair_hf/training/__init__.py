"""The one training loop, its settings, checkpoints and examples.

- config — settings of a run and their identity: `config.TrainingConfig`, `config.FinetuningConfig`,
  `config.PredictorTrainingConfig`, `config.AutoencoderTrainingConfig`, `config.architecture`
- examples — rows of a split as tensors, and their order: `examples.TrainingExamples`, `examples.StepSampler`
- checkpoints — what a run writes and resumes from: `checkpoints.TrainingState`, `checkpoints.check_output_dir`,
  `checkpoints.checkpoint_to_resume`, `checkpoints.finished_record`, `checkpoints.restore_checkpoint`,
  `checkpoints.write_checkpoint`
- origins — the images that a network was learned from: `origins.origins_of`, `origins.relation`
- stopping — signals wait for the end of a step: `stopping.StopSignals`
- loop — minimise an objective, save the averaged weights: `loop.train`
- devices — the device of this process: `devices.local_device`
- blocks — the residual block of small networks: `blocks.ResidualBlock`
"""
