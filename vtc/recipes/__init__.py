"""Recipes: named, saved compositions of stages with their parameters."""

from .composition import Recipe
from .named import RecipeSpec, named_recipes, recipe
from .registration import RECIPES, register_recipe, register_stage

__all__ = ["RECIPES", "Recipe", "RecipeSpec", "named_recipes", "recipe", "register_recipe", "register_stage"]
