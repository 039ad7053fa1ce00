"""An app in Flower's old API."""
