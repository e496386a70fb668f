"""fettle: fine-tune with proof."""

from fettle.version import __version__

__all__ = ["__version__"]
