"""Tables of labels: the meaning of their columns, and the images that their rows describe."""

from medssl.data.tables.columns import TableConfig, parse_split
from medssl.data.tables.join import JoinConfig, Joined, join_table, locate_rows
from medssl.data.tables.table import SUFFIXES, merge_row, read_table

__all__ = ["SUFFIXES", "JoinConfig", "Joined", "TableConfig", "join_table", "locate_rows", "merge_row", "parse_split", "read_table"]
