"""From a compressed LLM file to an accelerator whose numbers can be believed."""

__version__ = "0.1.0"
