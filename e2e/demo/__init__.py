"""The main job from end to end, for a newcomer to watch: `python -m e2e.demo`."""
