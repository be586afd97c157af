"""Parts of generated images, found from the generator's own feature maps with few labelled images (paper §3.2, S4)."""
