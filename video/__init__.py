"""Video: readers, segmenters, keyframes and clip budgets. Pictures only in this version; nothing stands here yet."""
