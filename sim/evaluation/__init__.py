"""How well a model predicts a fixed text, in golden arithmetic under a recipe and without any quantisation."""
