"""Files of other programs: checkpoints of the method's authors become models of biper."""

from biper.interop.authors_checkpoint import (
    ReferenceCheckpoint,
    import_reference,
    load_reference_checkpoint,
    read_reference_checkpoint,
)
from biper.interop.authors_networks import load_reference_state_dict, reference_models, reference_names

__all__ = [
    "ReferenceCheckpoint",
    "import_reference",
    "load_reference_checkpoint",
    "load_reference_state_dict",
    "read_reference_checkpoint",
    "reference_models",
    "reference_names",
]
