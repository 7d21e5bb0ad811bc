"""One paper per file: config dataclass, modules, presets."""
