"""From a site or a folder to documents: crawl, extract, split, keep in step."""
