"""Any user's single-cell counts as a validated data set."""

from scballast.data.dataset import Dataset, Population
from scballast.data.load import dataset_from_anndata, load_dataset

__all__ = ["Dataset", "Population", "dataset_from_anndata", "load_dataset"]
