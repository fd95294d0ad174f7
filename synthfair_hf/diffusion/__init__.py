"""What would the image have been? conditioning -> denoiser -> guidance -> solver -> pipeline."""
