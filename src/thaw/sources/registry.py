"""All sources, by their names in `download.source`."""

from thaw.sources import elpv, fiftyone_several, folder, open_images_several, table_several

SOURCES = {
    source.name: source
    for source in (
        elpv.SOURCE,
        open_images_several.SOURCE,
        folder.SOURCE,
        table_several.SOURCE,
        fiftyone_several.SOURCE,
    )
}
