"""From words to one checked Config and back: `sections` says what may be said, `reading` reads it, as `yaml_text`."""

from engine.config.reading import load_config, make_config, merge_values, read_values
from engine.config.sections import Batch, Config, Section, arguments, config_keys

__all__ = [
    "Batch", "Config", "Section", "arguments", "config_keys",
    "load_config", "make_config", "merge_values", "read_values",
]
