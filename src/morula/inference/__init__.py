"""Prediction of images of any size: plan tiles, read, predict, blend and write.

A network sees only `halo` voxels around an output voxel. Along one axis, two neighbouring tiles::

    tile A  |============================----|          =  weight 1
    tile B            |----============================|    ~  blended: the weights of A and B add up to 1
                      |   overlap    |                  -  margin: discarded, the network lacks context there

    A:  ====================~~~~~~~~~----
    B:              ----~~~~~~~~~====================

If the margin is at least the halo, every kept voxel has its whole context, and the tiled prediction equals the untiled one. Tiles start
at multiples of the pooling factor, so that the pooling grid is the same in all tiles; beyond the end of the image they are reflect-padded.
The number of voxels held in memory does not depend on the size of the image: `stitch` emits a box as soon as no later tile overlaps it.


Knows networks only as callables on tensors, and neither file formats nor segmentation.
"""
