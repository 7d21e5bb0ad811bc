"""Between a checkpoint folder, a name or a foreign file on one side and a model on the other."""
