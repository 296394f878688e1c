"""Tables of labels: the meaning of their columns, and the images that their rows describe."""

from medssl.data.tables.columns import TableConfig, parse_split
from medssl.data.tables.join import JoinConfig, Joined, join_tables, tidy_labels
from medssl.data.tables.reading import is_table, refuse_images_in_tables

__all__ = ["JoinConfig", "Joined", "TableConfig", "is_table", "join_tables", "parse_split", "refuse_images_in_tables", "tidy_labels"]
