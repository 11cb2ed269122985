"""From a model file or preset, a recipe and a scenario to the operators an accelerator must run."""
