"""Files to tensors: recordings, manifests, segments, token shards."""
