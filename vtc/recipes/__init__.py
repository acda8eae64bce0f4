"""Recipes: named, saved compositions of stages with their parameters."""

from .composition import RECIPES, Recipe, named_recipes, recipe

__all__ = ["RECIPES", "Recipe", "named_recipes", "recipe"]
