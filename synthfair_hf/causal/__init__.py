"""What would the covariates have been? graph -> mechanisms -> scm."""
