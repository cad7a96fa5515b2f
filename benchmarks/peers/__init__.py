"""Programs that predict expressions too, on the same photographs."""
