"""The Python API: what `import lis` offers."""
