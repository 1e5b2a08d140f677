"""Render the conda recipe, for its errors. Needs `py-rattler-build`."""

from pathlib import Path

from rattler_build import Stage0Recipe, VariantConfig

recipe = Stage0Recipe.from_file(str(Path(__file__).parent / "conda" / "recipe.yaml"))
for variant in recipe.render(VariantConfig({"python_min": ["3.11"]})):
    print(variant)
