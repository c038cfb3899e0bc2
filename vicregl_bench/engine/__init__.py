"""mmengine as the engine of every run: devices, the runner, stopping, settings."""
