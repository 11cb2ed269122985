"""GPUs: an analytical model fitted on measurements, its validation, and scenarios run on it."""
