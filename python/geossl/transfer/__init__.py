"""Detection, segmentation and classification with a pretrained encoder."""
