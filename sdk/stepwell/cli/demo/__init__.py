"""`stepwell demo`: the example pipelines on a local AWS, with a worker killed in the middle of each."""
