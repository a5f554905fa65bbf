"""Data sets of layered scenes: tar shards in the WebDataset layout, which any WebDataset reader can stream.

`sample` is a scene with its prompts and its schema, `shards` reads and writes tar files, `dataset` is a folder of shards with its
validator and statistics, `appending` adds scenes, `importing` fills a data set from other files and goes on where it was
stopped. The importers: `layered_files` (PSD, OpenRaster, layers.json), `mlcid` and `tables` (parquet).

The tar files are read here and not by the package webdataset, whose reader has no size limits, runs shell commands for names
such as "pipe:...", and runs code from members with some extensions.
"""
