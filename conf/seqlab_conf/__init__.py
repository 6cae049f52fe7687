"""The config that no constructor can say."""
