"""All sources, by their names in `download.source`."""

from thaw.sources import elpv, fiftyone_dataset, folder, open_images, table

SOURCES = {
    source.name: source
    for source in (elpv.SOURCE, open_images.SOURCE, folder.SOURCE, table.SOURCE, fiftyone_dataset.SOURCE)
}
