"""Operations on label images: distances, morphology, boundaries, refinement of objects, partial labels."""
