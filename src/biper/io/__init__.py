"""Files, checksummed containers, torch tensors on disk and pictures: what training and deployment both need."""
