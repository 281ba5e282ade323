"""Images and labels in class folders, tables or datasets of pairs. No file is decoded here."""

from transferclf.datasets.folders import load_image_folder as load_image_folder
from transferclf.datasets.image_tables import load_image_table as load_image_table
from transferclf.datasets.pairs import load_image_dataset as load_image_dataset
from transferclf.datasets.trees import image_extensions as image_extensions

__all__ = ["image_extensions", "load_image_dataset", "load_image_folder", "load_image_table"]
