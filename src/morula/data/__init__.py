"""Training patches: normalisation, split, sampling, augmentation and loading; and a summary of images.

A patch is made in this order, each step a function of (seed, epoch, index)::

    sampling       which source, which box            (sampling, patches)
    reading        the box and a margin, lazily       (crop)
    normalisation  intensities to a common scale      (normalise)
    warp           rotate, zoom, shear, shift, elastic: one interpolation of image and labels   (augment)
    orientation    flips and quarter turns, exact     (augment)
    targets        from the warped labels with their margin, which is then cut off              (patches)
    intensity      brightness, noise, blur, ...: of the image only   (augment)
    pretext        hiding or degrading the image, for self-supervised training  (patches)
"""
