"""The whole of Slipway on a real cluster: the cluster, the images, the tests and the demo."""
