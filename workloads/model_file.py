"""What a path holds: a model in a GGUF file or in a folder of safetensors, dimensions and weights, nothing loaded."""

from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.workloads.stored_model import StoredModel


def open_model(path: Path | str) -> StoredModel:
    """The model under ``path``: a folder with config.json, or a GGUF file."""
    path = Path(path)
    if path.is_dir():
        from mixflight.workloads.folder_model import open_model_folder

        return open_model_folder(path)
    if path.suffix == ".safetensors":
        raise InputError(f"a model in safetensors must be named by its folder, which holds config.json, not {path}")
    from mixflight.workloads.gguf import open_gguf
    from mixflight.workloads.gguf_model import stored_model_of

    return stored_model_of(open_gguf(path))
