"""Input and output that training and deployment share: files, checksummed containers, tensors on disk and pictures."""
